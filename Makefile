# An alias for ./run, for hands that type make.
.PHONY: app install test check demo
app install test check demo:
	@./run $@
