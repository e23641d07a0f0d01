from .instance_map import encode_instances, instance_boxes, read_layers, relabel, stack_layers, write_layers

__all__ = ['encode_instances', 'instance_boxes', 'read_layers', 'relabel', 'stack_layers', 'write_layers']
