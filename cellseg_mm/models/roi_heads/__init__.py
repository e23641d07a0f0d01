from .joint_batch_roi_head import JointBatchRoIHead

__all__ = ['JointBatchRoIHead']
