Lua return {}
