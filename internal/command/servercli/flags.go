package servercli

import (
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/remote"
	"github.com/go-partd/partd/stores"
)

const defaultListen = "tcp://127.0.0.1:7077"

type config struct {
	remote.ServerOptions
	stores           *stores.Set // nil means the schemes of package stores
	listen           []string
	store            string
	maxMessage       cliutil.Size // serve copies it to ServerOptions
	memory           cliutil.Size // half for messages (ServerOptions.Memory), half for the store
	space            spaceFlags
	insecure         bool
	http             string
	pprof            bool
	exitOnStdinClose bool
	stopTimeout      time.Duration
	tlsCert          string
	tlsKey           string
	clientCA         string
	tokensFile       string
	trustSockets     bool
	namespaces       int
	ttl              time.Duration
	logFormat        string
	auditLog         string
	exposeHTTP       bool
}

func (c *config) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	c.maxMessage = cliutil.Size{Bytes: 256 << 20, Min: 128 << 10}
	c.memory = cliutil.Size{Bytes: 1 << 30, Min: 16 << 20}
	fl.StringArrayVar(&c.listen, "listen", []string{defaultListen}, "`URL` to listen on: tcp://HOST:PORT, tls://HOST:PORT or ipc:///PATH; may be repeated")
	fl.StringVar(&c.tlsCert, "tls-cert", "", "`FILE` with the server's certificate for tls://, followed by intermediate certificates; reread when it changes, as are all --tls files")
	fl.StringVar(&c.tlsKey, "tls-key", "", "`FILE` with the private key of the certificate in --tls-cert")
	fl.StringVar(&c.clientCA, "tls-client-ca", "", "`FILE` with the CAs whose client certificates are accepted; the certificate's common name is the name of the user")
	fl.StringVar(&c.store, "store", "log:partd-data", "`URL` of the store")
	fl.Var(&c.maxMessage, "max-message", "`SIZE` of the largest batch or value that a message may contain")
	fl.IntVar(&c.MaxConnections, "max-connections", 1024, "maximum `NUMBER` of connections; at the limit, a new connection replaces an idle one")
	fl.Var(&c.memory, "memory", "`SIZE` of the memory budget, half for messages and half for the store; actual use can exceed it by a tenth, and a mem: store uses as much as its data needs")
	fl.IntVar(&c.MaxHandles, "max-handles", 1024, "maximum `NUMBER` of open readers and listings, across all clients")
	fl.DurationVar(&c.HandshakeTimeout, "handshake-timeout", 10*time.Second, "maximum `DURATION` of a new connection's handshake")
	fl.DurationVar(&c.IdleTimeout, "idle-timeout", 0, "maximum `DURATION` for which a connection may be idle; 0 means no limit")
	fl.DurationVar(&c.StallTimeout, "stall-timeout", 30*time.Second, "`DURATION` within which a client must send or read each 512 KiB of a message, plus a second for each 16 KiB; also the maximum time that a message waits for memory. Clients on Linux give up on a connection that accepts no data for 45s")
	fl.DurationVar(&c.DrainTimeout, "drain-timeout", 10*time.Second, "maximum `DURATION` for the requests in progress to finish when the server stops; the store is flushed first")
	fl.DurationVar(&c.stopTimeout, "stop-timeout", 0, "exit at most this `DURATION` after being told to stop, even if some data is not yet written; 0 means no limit")
	fl.StringVar(&c.tokensFile, "tokens-file", "", "`FILE` with the users, written by partd-server token add; without it and without --tls-client-ca, anyone who can connect can do everything")
	fl.BoolVar(&c.trustSockets, "trust-sockets", false, "let anyone who can open a Unix socket read, append and change data without a token, because Python's partd client cannot send one")
	fl.IntVar(&c.namespaces, "namespaces", 8, "maximum `NUMBER` of open namespace stores, in addition to the default store; they share a quarter of the store's memory, and closed stores are opened when needed; 0 turns namespaces off; needs a log: store")
	fl.DurationVar(&c.ttl, "namespace-ttl", 0, "`DURATION` after which a namespace without connections is removed; 0 means never")
	fl.BoolVar(&c.AllowClose, "allow-close", false, "let every client that can connect stop the server, as close_server does in Python")
	fl.BoolVar(&c.insecure, "insecure", false, "accept connections from other machines even without TLS or users; without TLS, others on the network can read the traffic, and without users, they can change everything")
	c.space.add(cmd)
	fl.StringVar(&c.http, "http", "", "serve /healthz, /readyz and, for Prometheus, /metrics at this `ADDRESS` (HOST:PORT), without authentication (default: off)")
	fl.BoolVar(&c.pprof, "pprof", false, "also serve Go's profiles, at /debug/pprof/ on the --http address")
	fl.BoolVar(&c.exitOnStdinClose, "exit-on-stdin-close", false, "exit, as on SIGTERM, when standard input is closed; for programs that start their own server")
	fl.StringVar(&c.logFormat, "log-format", "text", "`FORMAT` of the log on standard error: text or json")
	fl.StringVar(&c.auditLog, "audit-log", "", "append a JSON line for each request to this `FILE`, or to standard error if it is -; reopened on SIGHUP (default: off)")
	fl.BoolVar(&c.exposeHTTP, "http-exposed", false, "let --http accept connections from other machines, as Kubernetes probes require; others on the network can then see what the server does, but not the data")
	values := map[string][]string{
		"listen": {defaultListen, "tls://", "ipc:///"}, "store": {"log:", "file:", "buffer+file:", "mem:"}, "log-format": {"text", "json"},
	}
	fl.VisitAll(func(f *pflag.Flag) {
		directive := cobra.ShellCompDirectiveNoFileComp
		if f.Name == "store" || f.Name == "listen" {
			directive |= cobra.ShellCompDirectiveNoSpace
		}
		cliutil.Must(cmd.RegisterFlagCompletionFunc(f.Name, cobra.FixedCompletions(values[f.Name], directive)))
	})
}

func (c *config) isLog() bool {
	scheme, _ := cliutil.SplitURL(c.store)
	return scheme == "log"
}

func (c *config) hasUsers() bool { return c.tokensFile != "" || c.clientCA != "" }

func isSocket(rawURL string) bool { return strings.HasPrefix(rawURL, "ipc://") }

func isTLS(rawURL string) bool { return strings.HasPrefix(rawURL, "tls://") }

func (c *config) check(cmd *cobra.Command) error {
	c.space.minFreeGiven = cmd.Flags().Changed("min-free")
	switch {
	case c.MaxConnections < 1:
		return cliutil.Usagef("--max-connections must be at least 1, not %d", c.MaxConnections)
	case c.MaxHandles < 1:
		return cliutil.Usagef("--max-handles must be at least 1, not %d", c.MaxHandles)
	case c.HandshakeTimeout <= 0:
		return cliutil.Usagef("--handshake-timeout must be more than 0, such as 10s, not %v", c.HandshakeTimeout)
	case c.IdleTimeout < 0:
		return cliutil.Usagef("--idle-timeout must be 0 or more, such as 1h, not %v", c.IdleTimeout)
	case c.StallTimeout <= 0:
		return cliutil.Usagef("--stall-timeout must be more than 0, such as 30s, not %v", c.StallTimeout)
	case c.DrainTimeout <= 0:
		return cliutil.Usagef("--drain-timeout must be more than 0, such as 10s, not %v", c.DrainTimeout)
	case c.stopTimeout < 0:
		return cliutil.Usagef("--stop-timeout must be 0 or more, such as 1m, not %v", c.stopTimeout)
	case c.pprof && c.http == "":
		return cliutil.Usagef("--pprof needs --http ADDRESS, where the profiles are served")
	case c.exposeHTTP && c.http == "":
		return cliutil.Usagef("--http-exposed needs --http ADDRESS")
	case (c.tlsCert == "") != (c.tlsKey == ""):
		return cliutil.Usagef("--tls-cert and --tls-key must be used together")
	case c.clientCA != "" && c.tlsCert == "":
		return cliutil.Usagef("--tls-client-ca is for tls://: give --tls-cert and --tls-key")
	case c.tlsCert != "" && !slices.ContainsFunc(c.listen, isTLS):
		return cliutil.Usagef("--tls-cert is for tls://: give --listen tls://HOST:PORT")
	case c.tlsCert == "" && slices.ContainsFunc(c.listen, isTLS):
		return cliutil.Usagef("--listen tls://… needs a certificate: give --tls-cert and --tls-key")
	case c.trustSockets && (!c.hasUsers() || !slices.ContainsFunc(c.listen, isSocket)):
		return cliutil.Usagef("--trust-sockets is for a server with users and a Unix socket: give --tokens-file and --listen ipc:///PATH")
	case c.namespaces < 0:
		return cliutil.Usagef("--namespaces must be 0 or more, not %d", c.namespaces)
	case c.ttl < 0 || c.ttl > 0 && c.ttl < time.Minute:
		return cliutil.Usagef("--namespace-ttl must be 0 or at least a minute, such as 24h, not %v", c.ttl)
	case c.namespaceDir() == "" && (c.ttl > 0 || c.space.namespaceMaxBytes.Bytes > 0 || slices.ContainsFunc(c.listen, func(l string) bool { return strings.Contains(l, "=") })):
		return cliutil.Usagef("--store %s has no namespaces: use a store log:DIR without a buffer, and --namespaces above 0", c.store)
	case c.space.maxBytes.Bytes > 0 && c.space.maxBytes.Bytes < minLogQuota && c.isLog():
		return cliutil.Usagef("--max-bytes %s is too little for a log store, whose write-ahead file counts 1 MiB: give at least %s",
			stores.FormatSize(c.space.maxBytes.Bytes), stores.FormatSize(minLogQuota))
	case c.logFormat != "text" && c.logFormat != "json":
		return cliutil.Usagef("--log-format %q: use text or json", c.logFormat)
	}
	// Half of the memory is for messages. It must have room for at least two messages.
	if limit := c.memory.Bytes / 4; c.maxMessage.Bytes > limit {
		if cmd.Flags().Changed("max-message") {
			return cliutil.Usagef("--max-message %s needs --memory %s or more, four times as much",
				stores.FormatSize(c.maxMessage.Bytes), stores.FormatSize(4*c.maxMessage.Bytes))
		}
		c.maxMessage.Bytes = limit
	}
	return nil
}
