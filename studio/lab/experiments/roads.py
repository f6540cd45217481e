from studio.lab.experiments import agree
import dataclasses
EXPERIMENT = dataclasses.replace(agree.EXPERIMENT, name='roads')
