"""Where preferences come from: people, judges, a constitution, reward models, rules, larger models."""
