package servercli

import (
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/go-partd/partd/internal/cliutil"
	"github.com/go-partd/partd/internal/cliutil/sizeflag"
	"github.com/go-partd/partd/remote"
	"github.com/go-partd/partd/stores"
)

const defaultListen = "tcp://127.0.0.1:7077"

// config is what the command's flags say.
type config struct {
	remote.ServerOptions
	stores     *stores.Set // nil for those of package stores
	listen     []string
	store      string
	maxMessage sizeflag.Size // as flags, which the options get in the end
	memory     sizeflag.Size
	room       roomFlags
	insecure   bool
	http       string
	pprof      bool
	withStdin  bool
	stopWithin time.Duration
	tlsCert    string
	tlsKey     string
	clientCA   string
	tokensFile string
	trust      bool
	namespaces int
	ttl        time.Duration
	logFormat  string
}

func (c *config) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	c.maxMessage = sizeflag.Size{Bytes: 256 << 20, Min: 128 << 10}
	c.memory = sizeflag.Size{Bytes: 1 << 30, Min: 16 << 20}
	fl.StringArrayVar(&c.listen, "listen", []string{defaultListen}, "`URL` to listen on, tcp://HOST:PORT, tls://HOST:PORT or ipc:///PATH; may be given several times")
	fl.StringVar(&c.tlsCert, "tls-cert", "", "`FILE` with the certificate for tls://, then its intermediates; read again when it changes, like the other --tls files")
	fl.StringVar(&c.tlsKey, "tls-key", "", "`FILE` with the key of --tls-cert")
	fl.StringVar(&c.clientCA, "tls-client-ca", "", "`FILE` with the authorities whose client certificates are accepted; a certificate's common name is the user")
	fl.StringVar(&c.store, "store", "log:partd-data", "`URL` of the store")
	fl.Var(&c.maxMessage, "max-message", "`SIZE` of the largest message accepted; Go clients send larger ones in parts")
	fl.IntVar(&c.MaxConnections, "max-connections", 1024, "`NUMBER` of connections at a time; beyond it one is closed")
	fl.Var(&c.memory, "memory", "`SIZE` of the memory to use: half for messages, half for the store (a mem: store takes what it holds)")
	fl.IntVar(&c.MaxHandles, "max-handles", 1024, "`NUMBER` of open readers and listings of all clients together")
	fl.DurationVar(&c.HandshakeTimeout, "handshake-timeout", 10*time.Second, "`TIME` a peer has to open its connection")
	fl.DurationVar(&c.IdleTimeout, "idle-timeout", 0, "`TIME` a connection may be idle; 0 is forever")
	fl.DurationVar(&c.StallTimeout, "stall-timeout", 30*time.Second, "`TIME` that 512 KiB of a message may take to arrive or to be read, and that a message may wait for memory")
	fl.DurationVar(&c.DrainTimeout, "drain-timeout", 10*time.Second, "`TIME` to finish requests under way and deliver their answers once the server is asked to stop")
	fl.DurationVar(&c.stopWithin, "stop-timeout", 0, "`TIME` after which a server that is asked to stop ends, whatever it has not written yet; 0 is never")
	fl.StringVar(&c.tokensFile, "tokens-file", "", "`FILE` with the users, made by partd-server token add; without it and --tls-client-ca, anyone who can connect may do everything")
	fl.BoolVar(&c.trust, "trust-sockets", false, "let anyone who can open a Unix socket read, append and change without a credential: Python's clients have none")
	fl.IntVar(&c.namespaces, "namespaces", 8, "`NUMBER` of namespaces open at a time beside the default one, in a quarter of the store's memory; a log: store may have any number of them; 0 allows none")
	fl.DurationVar(&c.ttl, "namespace-ttl", 0, "`TIME` after which a namespace without connections is removed; 0 is never")
	fl.BoolVar(&c.AllowClose, "allow-close", false, "let every client that can connect end the server (Python's close_server)")
	fl.BoolVar(&c.insecure, "insecure", false, "listen beyond this machine without TLS and users: others there can read the traffic and, without users, change everything")
	c.room.add(cmd)
	fl.StringVar(&c.http, "http", "", "`ADDRESS`, HOST:PORT, to serve /healthz, /readyz and Prometheus' /metrics on, unauthenticated (default: off)")
	fl.BoolVar(&c.pprof, "pprof", false, "also serve Go's profiles, at /debug/pprof/ of --http")
	fl.BoolVar(&c.withStdin, "exit-on-stdin-close", false, "end as on SIGTERM once standard input is closed: for a program that starts its own server")
	fl.StringVar(&c.logFormat, "log-format", "text", "`FORMAT` of the log on standard error: text or json")
	values := map[string][]string{
		"listen": {defaultListen, "tls://", "ipc:///"}, "store": {"log:", "file:", "buffer+file:", "mem:"}, "log-format": {"text", "json"},
	}
	fl.VisitAll(func(f *pflag.Flag) {
		directive := cobra.ShellCompDirectiveNoFileComp
		if f.Name == "store" || f.Name == "listen" {
			directive |= cobra.ShellCompDirectiveNoSpace
		}
		if err := cmd.RegisterFlagCompletionFunc(f.Name, cobra.FixedCompletions(values[f.Name], directive)); err != nil {
			panic(err) // there is no such flag: the program is wrong
		}
	})
}

func (c *config) hasUsers() bool { return c.tokensFile != "" || c.clientCA != "" }

func isSocket(rawURL string) bool { return strings.HasPrefix(rawURL, "ipc://") }

func isTLS(rawURL string) bool { return strings.HasPrefix(rawURL, "tls://") }

// check checks what the flags are together.
func (c *config) check(cmd *cobra.Command) error {
	c.room.minFreeGiven = cmd.Flags().Changed("min-free")
	switch {
	case c.MaxConnections < 1:
		return cliutil.Usagef("--max-connections %d: at least 1", c.MaxConnections)
	case c.MaxHandles < 1:
		return cliutil.Usagef("--max-handles %d: at least 1", c.MaxHandles)
	case c.HandshakeTimeout <= 0:
		return cliutil.Usagef("--handshake-timeout %v: more than 0, as in 10s", c.HandshakeTimeout)
	case c.IdleTimeout < 0:
		return cliutil.Usagef("--idle-timeout %v: 0 or more, as in 1h", c.IdleTimeout)
	case c.StallTimeout <= 0:
		return cliutil.Usagef("--stall-timeout %v: more than 0, as in 30s", c.StallTimeout)
	case c.DrainTimeout <= 0:
		return cliutil.Usagef("--drain-timeout %v: more than 0, as in 10s", c.DrainTimeout)
	case c.stopWithin < 0:
		return cliutil.Usagef("--stop-timeout %v: 0 or more, as in 1m", c.stopWithin)
	case c.pprof && c.http == "":
		return cliutil.Usagef("--pprof needs --http ADDRESS, where the profiles are served")
	case (c.tlsCert == "") != (c.tlsKey == ""):
		return cliutil.Usagef("--tls-cert and --tls-key: a certificate needs its key, and a key its certificate: give both")
	case c.clientCA != "" && c.tlsCert == "":
		return cliutil.Usagef("--tls-client-ca is for tls://: give --tls-cert and --tls-key, too")
	case c.tlsCert != "" && !slices.ContainsFunc(c.listen, isTLS):
		return cliutil.Usagef("--tls-cert is for tls://: give --listen tls://HOST:PORT, too")
	case c.tlsCert == "" && slices.ContainsFunc(c.listen, isTLS):
		return cliutil.Usagef("--listen tls://… needs a certificate: give --tls-cert and --tls-key, too")
	case c.trust && (!c.hasUsers() || !slices.ContainsFunc(c.listen, isSocket)):
		return cliutil.Usagef("--trust-sockets is for a server with users and a Unix socket: give --tokens-file and --listen ipc:///PATH, too")
	case c.namespaces < 0:
		return cliutil.Usagef("--namespaces %d: 0 or more", c.namespaces)
	case c.ttl < 0 || c.ttl > 0 && c.ttl < time.Minute:
		return cliutil.Usagef("--namespace-ttl %v: at least a minute, as 24h; or 0", c.ttl)
	case c.namespaceDir() == "" && (c.ttl > 0 || c.room.maxOfOne.Bytes > 0 || slices.ContainsFunc(c.listen, func(l string) bool { return strings.Contains(l, "=") })):
		return cliutil.Usagef("--store %s has no namespaces: they need a store log:DIR without a buffer, and --namespaces above 0", c.store)
	case c.logFormat != "text" && c.logFormat != "json":
		return cliutil.Usagef("--log-format %q: there are text and json", c.logFormat)
	}
	// Half of the memory is for messages, of which two at least must fit.
	if limit := c.memory.Bytes / 4; c.maxMessage.Bytes > limit {
		if cmd.Flags().Changed("max-message") {
			return cliutil.Usagef("--max-message %s needs --memory %s or more, four times as much",
				stores.FormatSize(c.maxMessage.Bytes), stores.FormatSize(4*c.maxMessage.Bytes))
		}
		c.maxMessage.Bytes = limit
	}
	return nil
}
