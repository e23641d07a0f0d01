# All of a config but its model: data, schedule, runtime. A preset for other data is a child of this file, such as
# ../consep/consep.py; a config is a model and a preset.
_base_ = ['./datasets/cells.py', './schedules/adamw_cosine_40e.py', './default_runtime.py']
