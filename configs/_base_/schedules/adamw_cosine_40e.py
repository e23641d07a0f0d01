# The course report's training: AdamW 2e-4 / 1e-4, cosine to 5e-6 over 40 epochs, mixed precision, validated each epoch.
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=40, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

# on a CPU tools/train.py makes it CPUAmpOptimWrapper, in bf16 if a trial shows that it is faster, else in fp32
optim_wrapper = dict(type='AmpOptimWrapper', optimizer=dict(type='AdamW', lr=2e-4, weight_decay=1e-4))
# without T_max the cosine ends with the last epoch, however many train_cfg says
param_scheduler = [dict(type='CosineAnnealingLR', eta_min=5e-6, by_epoch=True)]
# linear, to the joint batch of all processes, with --cfg-options auto_scale_lr.enable=True
auto_scale_lr = dict(enable=False, base_batch_size=2)
