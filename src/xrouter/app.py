"""Introduces everybody: settings and configuration -> stores, providers -> gateway -> one ASGI application.

The only file that knows all packages. What runs beside the requests (key refresh, flusher) starts and ends here.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_address
from urllib.parse import urlsplit

from xrouter import providers
from xrouter.admin import routes
from xrouter.admin.health import PATHS as HEALTH_PATHS
from xrouter.admin.health import Health
from xrouter.core.call import Caller, Scope
from xrouter.core.clock import SystemClock
from xrouter.core.deployment import Deployment
from xrouter.core.errors import GatewayError
from xrouter.core.ports import ChatProvider
from xrouter.dialects.data_plane import DataPlane
from xrouter.dialects.exchange import Receive, Send
from xrouter.dialects.exchange import Scope as AsgiScope
from xrouter.dialects.limits import Limits
from xrouter.dialects.openai import problems
from xrouter.edge.validator import Edge
from xrouter.gateway import catalog, pipeline
from xrouter.gateway.gateway import Gateway
from xrouter.settings import Config, ConfigError, ProviderSettings, Settings
from xrouter.stores.flusher import Flusher
from xrouter.stores.journal import FileJournal
from xrouter.stores.pepper import load_pepper
from xrouter.stores.slots import HostSlots
from xrouter.stores.sql.attempts import SqlAttempts
from xrouter.stores.sql.database import Database, open_database
from xrouter.stores.sql.keys import SqlKeys
from xrouter.telemetry.metrics import Metrics
from xrouter.transport import Transport
from xrouter.transport.aiohttp_client import open_transport
