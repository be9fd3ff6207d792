from .connections import check_endpoint as check_endpoint
from .connections import check_store as check_store
from .machine import check_machine as check_machine
from .packages import check_packages as check_packages
