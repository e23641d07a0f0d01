# The larger windows, and nuclei of other tissue whose classes nobody said: the model must find them, of whatever class.
# ../nuclei/README.md says how data/nuclei is made.
_base_ = './consep_lite0_wide.py'

nuclei = dict(_base_.train_dataloader.dataset.dataset, data_root='data/nuclei/', unknown_class=True)
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='ConcatDataset',
        datasets=[_base_.train_dataloader.dataset, dict(type='RedrawDataset', times=2, dataset=nuclei)],
    ),
)
