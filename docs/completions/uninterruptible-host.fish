# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_uninterruptible_host_global_optspecs
    string join \n config= plugin= plugin-kind= guest-start= plugin-sha256= guest-env= guest-arg= guest-dir= guest-connect= guest-memory= guest-memory-kept= guest-cpu-time= guest-resources= max-connections-per-ip= connection-timeout= idle-timeout= allow-network= deny-network= proxy-protocol= tls-certificate= tls-key= tls-min-version= tls-alpn= client-ca= verify-client-certificate= handshake-timeout= watch cache-dir= disable-wasi-0-3 component-layer= bind= backlog= max-connections= workers= start-command= ready-timeout= rollback-window= handoff-drain-timeout= max-draining= handoff-socket= take-over= drain-timeout= anchor= user= group= pidfile= admin= log-file= log-level= log-format= h/help V/version
end

function __fish_uninterruptible_host_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_uninterruptible_host_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_uninterruptible_host_using_subcommand
    set -l cmd (__fish_uninterruptible_host_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c uninterruptible-host -n "__fish_uninterruptible_host_needs_command" -l config -d 'Configuration file in TOML. The command line and the environment win over it' -r -F
complete -c uninterruptible-host -n "__fish_uninterruptible_host_needs_command" -l plugin -d 'Plugin that serves each connection: a WebAssembly component, or a WASI 0.1 program' -r -F
complete -c uninterruptible-host -n "__fish_uninterruptible_host_needs_command" -l plugin-kind -d 'Kind to serve, if the plugin\'s file has several, such as `handler-0.2` or `command-0.2`. `auto` takes the first that matches' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_needs_command" -l guest-start -d 'When a guest starts: at `accept`, at the `first-byte`, or `auto` for the first byte if the plugin cannot tell the difference' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_needs_command" -l plugin-sha256 -d 'SHA-256 of the plugin in hexadecimal. The host rejects any other content, at a reload too' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_needs_command" -l guest-env -d 'Environment variable for guests, as NAME=VALUE, or NAME=@FILE for a secret. Repeatable' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_needs_command" -l guest-arg -d 'Argument for guests. Repeatable' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_needs_command" -l guest-dir -d 'Directory for guests, as HOST::GUEST. Read-only unless :rw follows. Repeatable' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_needs_command" -l guest-connect -d 'Destination of tcp connections that guests may make: an address, a network or a name, and a port or *. Repeatable' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_needs_command" -l guest-memory -d 'Memory of one guest, over all its linear memories' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_needs_command" -l guest-memory-kept -d 'Memory of a finished guest that the host keeps for the next one. `auto` depends on the plugin and the machine' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_needs_command" -l guest-cpu-time -d 'CPU time that a guest may use while its connection transfers nothing' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_needs_command" -l guest-resources -d 'Resources that a guest may hold at once: streams, pollables, bodies, files' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_needs_command" -l max-connections-per-ip -d 'Connections that one address may have on all listeners together, or `none`. The host closes further ones. An IPv6 /64 counts as one address' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_needs_command" -l connection-timeout -d 'Maximum duration of a connection, or of an HTTP request, or `none`' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_needs_command" -l idle-timeout -d 'Time without a byte in either direction after which the host closes a connection, or `none`' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_needs_command" -l allow-network -d 'Networks that may connect, as in 10.0.0.0/8,2001:db8::1. Without this option, all may. Repeatable' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_needs_command" -l deny-network -d 'Networks that may not connect, even if they are allowed. Repeatable' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_needs_command" -l proxy-protocol -d 'Networks of trusted proxies, which must begin each connection with a PROXY header (version 1 or 2); `unix` for proxies at unix listeners. Repeatable' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_needs_command" -l tls-certificate -d 'Certificate chain of the server, in PEM. Turns TLS on for all listeners. Repeatable, each with its key; the client\'s server name selects one' -r -F
complete -c uninterruptible-host -n "__fish_uninterruptible_host_needs_command" -l tls-key -d 'Private key of the certificate at the same position, in PEM, not encrypted. Repeatable' -r -F
complete -c uninterruptible-host -n "__fish_uninterruptible_host_needs_command" -l tls-min-version -d 'Oldest TLS version to accept, 1.2 or 1.3 [default: 1.2]' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_needs_command" -l tls-alpn -d 'Application protocol to offer in ALPN, the preferred one first. Repeatable' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_needs_command" -l client-ca -d 'Certificates of authorities, in PEM. Only clients with a certificate from one of these may connect' -r -F
complete -c uninterruptible-host -n "__fish_uninterruptible_host_needs_command" -l verify-client-certificate -d 'Do not start without --client-ca, which alone requires client certificates' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_needs_command" -l handshake-timeout -d 'Time for a TLS handshake' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_needs_command" -l cache-dir -d 'Directory for compiled plugins, which only this user may write, or `none` [default: uninterruptible-host in $XDG_CACHE_HOME or ~/.cache]' -r -F
complete -c uninterruptible-host -n "__fish_uninterruptible_host_needs_command" -l component-layer -d 'Engine\'s component layer for handlers of WASI 0.2: auto (only for components that need it; others start faster without) or keep (for all)' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_needs_command" -l bind -d 'Address to listen on: tcp://HOST:PORT, unix:///PATH?mode=0660, or systemd:NAME for sockets from a socket unit. Repeatable [default: tcp://0.0.0.0:$PORT if PORT is set, else tcp://127.0.0.1:7000]' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_needs_command" -l backlog -d 'Length of the kernel\'s queue for each listener. The kernel caps it at net.core.somaxconn' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_needs_command" -l max-connections -d 'Maximum number of open connections; further ones wait in the kernel\'s queue [default: 4096, or less if the descriptor limit is low]' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_needs_command" -l workers -d 'Threads that serve connections [default: one per processor]' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_needs_command" -l start-command -d 'Command that starts the successor, split into words without a shell [default: the command that started this host]' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_needs_command" -l ready-timeout -d 'Time for a successor to get ready. After that the restart fails and the old process continues' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_needs_command" -l rollback-window -d 'Time in which the old process takes over again if its successor dies. `0s` disables it' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_needs_command" -l handoff-drain-timeout -d 'Time for the old process to finish its connections after a restart, or `none`' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_needs_command" -l max-draining -d 'Old processes that may drain at once. Further restarts are rejected' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_needs_command" -l handoff-socket -d 'Unix socket, with mode 0600, for a takeover by a process that this host did not start' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_needs_command" -l take-over -d 'Take over from the host with this --handoff-socket. Starts cold if no host listens there' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_needs_command" -l drain-timeout -d 'Time that a stop waits for open connections' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_needs_command" -l anchor -d 'Keep one process id through all restarts, with a small parent process: `always`, `never` or `auto`. `auto` does this as process 1 of a container and under tini, docker-init, dumb-init, runit, s6 and supervisord' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_needs_command" -l user -d 'User to switch to after binding, with its group from the user database' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_needs_command" -l group -d 'Group to switch to after binding, by name or number' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_needs_command" -l pidfile -d 'File with the process id to signal. It follows the service through restarts' -r -F
complete -c uninterruptible-host -n "__fish_uninterruptible_host_needs_command" -l admin -d 'Address of the admin endpoint, which serves status, metrics and commands over HTTP: unix:///PATH for this user and root, or a loopback tcp://ADDRESS:PORT' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_needs_command" -l log-file -d 'Log file. HUP reopens it, for rotation [default: standard error]' -r -F
complete -c uninterruptible-host -n "__fish_uninterruptible_host_needs_command" -l log-level -d 'Minimum level of log records: `error`, `warn`, `info`, `debug` or `trace`' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_needs_command" -l log-format -d 'Format of log records: `text` or `json`' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_needs_command" -l watch -d 'Reload as soon as a plugin\'s file changes, for development'
complete -c uninterruptible-host -n "__fish_uninterruptible_host_needs_command" -l disable-wasi-0-3 -d 'Reject plugins that use WASI 0.3, for which the engine\'s support is experimental'
complete -c uninterruptible-host -n "__fish_uninterruptible_host_needs_command" -s h -l help -d 'Print help'
complete -c uninterruptible-host -n "__fish_uninterruptible_host_needs_command" -s V -l version -d 'Print version'
complete -c uninterruptible-host -n "__fish_uninterruptible_host_needs_command" -f -a "check" -d 'Check the configuration, plugins and files without serving, and print the resolved configuration'
complete -c uninterruptible-host -n "__fish_uninterruptible_host_needs_command" -f -a "status" -d 'Show the status of a running host'
complete -c uninterruptible-host -n "__fish_uninterruptible_host_needs_command" -f -a "restart" -d 'Restart a running host without dropping connections, and wait until the successor serves. Exits with 1 if that fails'
complete -c uninterruptible-host -n "__fish_uninterruptible_host_needs_command" -f -a "rollback" -d 'Return to the predecessor within the rollback window of a restart, or abort a restart that is under way'
complete -c uninterruptible-host -n "__fish_uninterruptible_host_needs_command" -f -a "reload" -d 'Reload plugins, TLS files and listener options of a running host, and wait for the outcome'
complete -c uninterruptible-host -n "__fish_uninterruptible_host_needs_command" -f -a "stop" -d 'Stop a running host after its open connections have finished. A second stop closes them at once'
complete -c uninterruptible-host -n "__fish_uninterruptible_host_needs_command" -f -a "inspect" -d 'Show the exports and imports of a plugin, and the grants that it needs'
complete -c uninterruptible-host -n "__fish_uninterruptible_host_needs_command" -f -a "compile" -d 'Compile a plugin into the cache, ahead of a start or a reload'
complete -c uninterruptible-host -n "__fish_uninterruptible_host_needs_command" -f -a "new" -d 'Create a directory with a new plugin: a handler, a test and a build script'
complete -c uninterruptible-host -n "__fish_uninterruptible_host_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand check" -l config -d 'Configuration file in TOML. The command line and the environment win over it' -r -F
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand check" -l plugin -d 'Plugin that serves each connection: a WebAssembly component, or a WASI 0.1 program' -r -F
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand check" -l plugin-kind -d 'Kind to serve, if the plugin\'s file has several, such as `handler-0.2` or `command-0.2`. `auto` takes the first that matches' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand check" -l guest-start -d 'When a guest starts: at `accept`, at the `first-byte`, or `auto` for the first byte if the plugin cannot tell the difference' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand check" -l plugin-sha256 -d 'SHA-256 of the plugin in hexadecimal. The host rejects any other content, at a reload too' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand check" -l guest-env -d 'Environment variable for guests, as NAME=VALUE, or NAME=@FILE for a secret. Repeatable' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand check" -l guest-arg -d 'Argument for guests. Repeatable' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand check" -l guest-dir -d 'Directory for guests, as HOST::GUEST. Read-only unless :rw follows. Repeatable' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand check" -l guest-connect -d 'Destination of tcp connections that guests may make: an address, a network or a name, and a port or *. Repeatable' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand check" -l guest-memory -d 'Memory of one guest, over all its linear memories' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand check" -l guest-memory-kept -d 'Memory of a finished guest that the host keeps for the next one. `auto` depends on the plugin and the machine' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand check" -l guest-cpu-time -d 'CPU time that a guest may use while its connection transfers nothing' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand check" -l guest-resources -d 'Resources that a guest may hold at once: streams, pollables, bodies, files' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand check" -l max-connections-per-ip -d 'Connections that one address may have on all listeners together, or `none`. The host closes further ones. An IPv6 /64 counts as one address' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand check" -l connection-timeout -d 'Maximum duration of a connection, or of an HTTP request, or `none`' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand check" -l idle-timeout -d 'Time without a byte in either direction after which the host closes a connection, or `none`' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand check" -l allow-network -d 'Networks that may connect, as in 10.0.0.0/8,2001:db8::1. Without this option, all may. Repeatable' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand check" -l deny-network -d 'Networks that may not connect, even if they are allowed. Repeatable' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand check" -l proxy-protocol -d 'Networks of trusted proxies, which must begin each connection with a PROXY header (version 1 or 2); `unix` for proxies at unix listeners. Repeatable' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand check" -l tls-certificate -d 'Certificate chain of the server, in PEM. Turns TLS on for all listeners. Repeatable, each with its key; the client\'s server name selects one' -r -F
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand check" -l tls-key -d 'Private key of the certificate at the same position, in PEM, not encrypted. Repeatable' -r -F
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand check" -l tls-min-version -d 'Oldest TLS version to accept, 1.2 or 1.3 [default: 1.2]' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand check" -l tls-alpn -d 'Application protocol to offer in ALPN, the preferred one first. Repeatable' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand check" -l client-ca -d 'Certificates of authorities, in PEM. Only clients with a certificate from one of these may connect' -r -F
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand check" -l verify-client-certificate -d 'Do not start without --client-ca, which alone requires client certificates' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand check" -l handshake-timeout -d 'Time for a TLS handshake' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand check" -l cache-dir -d 'Directory for compiled plugins, which only this user may write, or `none` [default: uninterruptible-host in $XDG_CACHE_HOME or ~/.cache]' -r -F
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand check" -l component-layer -d 'Engine\'s component layer for handlers of WASI 0.2: auto (only for components that need it; others start faster without) or keep (for all)' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand check" -l bind -d 'Address to listen on: tcp://HOST:PORT, unix:///PATH?mode=0660, or systemd:NAME for sockets from a socket unit. Repeatable [default: tcp://0.0.0.0:$PORT if PORT is set, else tcp://127.0.0.1:7000]' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand check" -l backlog -d 'Length of the kernel\'s queue for each listener. The kernel caps it at net.core.somaxconn' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand check" -l max-connections -d 'Maximum number of open connections; further ones wait in the kernel\'s queue [default: 4096, or less if the descriptor limit is low]' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand check" -l workers -d 'Threads that serve connections [default: one per processor]' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand check" -l start-command -d 'Command that starts the successor, split into words without a shell [default: the command that started this host]' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand check" -l ready-timeout -d 'Time for a successor to get ready. After that the restart fails and the old process continues' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand check" -l rollback-window -d 'Time in which the old process takes over again if its successor dies. `0s` disables it' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand check" -l handoff-drain-timeout -d 'Time for the old process to finish its connections after a restart, or `none`' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand check" -l max-draining -d 'Old processes that may drain at once. Further restarts are rejected' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand check" -l handoff-socket -d 'Unix socket, with mode 0600, for a takeover by a process that this host did not start' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand check" -l take-over -d 'Take over from the host with this --handoff-socket. Starts cold if no host listens there' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand check" -l drain-timeout -d 'Time that a stop waits for open connections' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand check" -l anchor -d 'Keep one process id through all restarts, with a small parent process: `always`, `never` or `auto`. `auto` does this as process 1 of a container and under tini, docker-init, dumb-init, runit, s6 and supervisord' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand check" -l user -d 'User to switch to after binding, with its group from the user database' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand check" -l group -d 'Group to switch to after binding, by name or number' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand check" -l pidfile -d 'File with the process id to signal. It follows the service through restarts' -r -F
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand check" -l admin -d 'Address of the admin endpoint, which serves status, metrics and commands over HTTP: unix:///PATH for this user and root, or a loopback tcp://ADDRESS:PORT' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand check" -l log-file -d 'Log file. HUP reopens it, for rotation [default: standard error]' -r -F
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand check" -l log-level -d 'Minimum level of log records: `error`, `warn`, `info`, `debug` or `trace`' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand check" -l log-format -d 'Format of log records: `text` or `json`' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand check" -l watch -d 'Reload as soon as a plugin\'s file changes, for development'
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand check" -l disable-wasi-0-3 -d 'Reject plugins that use WASI 0.3, for which the engine\'s support is experimental'
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand check" -s h -l help -d 'Print help'
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand status" -l admin -d 'Admin endpoint of the host, as given to its --admin' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand status" -l config -d 'Configuration file of the host, if that names the endpoint' -r -F
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand status" -l timeout -d 'Time to wait for the outcome' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand status" -l json -d 'Print the status as JSON'
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand status" -s h -l help -d 'Print help'
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand restart" -l admin -d 'Admin endpoint of the host, as given to its --admin' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand restart" -l config -d 'Configuration file of the host, if that names the endpoint' -r -F
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand restart" -l timeout -d 'Time to wait for the outcome' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand restart" -l wait-settled -d 'Wait until the rollback window is over'
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand restart" -s h -l help -d 'Print help'
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand rollback" -l admin -d 'Admin endpoint of the host, as given to its --admin' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand rollback" -l config -d 'Configuration file of the host, if that names the endpoint' -r -F
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand rollback" -l timeout -d 'Time to wait for the outcome' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand rollback" -s h -l help -d 'Print help'
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand reload" -l admin -d 'Admin endpoint of the host, as given to its --admin' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand reload" -l config -d 'Configuration file of the host, if that names the endpoint' -r -F
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand reload" -l timeout -d 'Time to wait for the outcome' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand reload" -s h -l help -d 'Print help'
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand stop" -l admin -d 'Admin endpoint of the host, as given to its --admin' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand stop" -l config -d 'Configuration file of the host, if that names the endpoint' -r -F
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand stop" -l timeout -d 'Time to wait for the outcome' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand stop" -s h -l help -d 'Print help'
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand inspect" -l plugin-kind -d 'Kind of the plugin, if its file has several, as for serving' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand inspect" -l cache-dir -d 'Directory for compiled plugins, or `none` [default: as for serving]' -r -F
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand inspect" -l component-layer -d 'Engine\'s component layer, as when serving' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand inspect" -l guest-memory -d 'Memory of one guest' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand inspect" -l disable-wasi-0-3 -d 'Reject plugins that use WASI 0.3'
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand inspect" -s h -l help -d 'Print help'
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand compile" -l plugin-kind -d 'Kind of the plugin, if its file has several, as for serving' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand compile" -l cache-dir -d 'Directory for compiled plugins, or `none` [default: as for serving]' -r -F
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand compile" -l component-layer -d 'Engine\'s component layer, as when serving' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand compile" -l guest-memory -d 'Memory of one guest' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand compile" -l disable-wasi-0-3 -d 'Reject plugins that use WASI 0.3'
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand compile" -s h -l help -d 'Print help'
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand new" -l lang -d 'Language of the handler: rust, c, js or python' -r
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand new" -s h -l help -d 'Print help'
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand help; and not __fish_seen_subcommand_from check status restart rollback reload stop inspect compile new help" -f -a "check" -d 'Check the configuration, plugins and files without serving, and print the resolved configuration'
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand help; and not __fish_seen_subcommand_from check status restart rollback reload stop inspect compile new help" -f -a "status" -d 'Show the status of a running host'
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand help; and not __fish_seen_subcommand_from check status restart rollback reload stop inspect compile new help" -f -a "restart" -d 'Restart a running host without dropping connections, and wait until the successor serves. Exits with 1 if that fails'
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand help; and not __fish_seen_subcommand_from check status restart rollback reload stop inspect compile new help" -f -a "rollback" -d 'Return to the predecessor within the rollback window of a restart, or abort a restart that is under way'
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand help; and not __fish_seen_subcommand_from check status restart rollback reload stop inspect compile new help" -f -a "reload" -d 'Reload plugins, TLS files and listener options of a running host, and wait for the outcome'
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand help; and not __fish_seen_subcommand_from check status restart rollback reload stop inspect compile new help" -f -a "stop" -d 'Stop a running host after its open connections have finished. A second stop closes them at once'
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand help; and not __fish_seen_subcommand_from check status restart rollback reload stop inspect compile new help" -f -a "inspect" -d 'Show the exports and imports of a plugin, and the grants that it needs'
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand help; and not __fish_seen_subcommand_from check status restart rollback reload stop inspect compile new help" -f -a "compile" -d 'Compile a plugin into the cache, ahead of a start or a reload'
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand help; and not __fish_seen_subcommand_from check status restart rollback reload stop inspect compile new help" -f -a "new" -d 'Create a directory with a new plugin: a handler, a test and a build script'
complete -c uninterruptible-host -n "__fish_uninterruptible_host_using_subcommand help; and not __fish_seen_subcommand_from check status restart rollback reload stop inspect compile new help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
