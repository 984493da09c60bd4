package servercli

import (
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
	listen     []string
	store      string
	maxMessage sizeflag.Size // as flags, which the options get in the end
	memory     sizeflag.Size
	insecure   bool
	logFormat  string
}

func (c *config) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	c.maxMessage = sizeflag.Size{Bytes: 256 << 20, Min: 128 << 10}
	c.memory = sizeflag.Size{Bytes: 1 << 30, Min: 16 << 20}
	fl.StringArrayVar(&c.listen, "listen", []string{defaultListen}, "`URL` to listen on, tcp://HOST:PORT or ipc:///PATH; may be given several times")
	fl.StringVar(&c.store, "store", "log:partd-data", "`URL` of the store")
	fl.Var(&c.maxMessage, "max-message", "`SIZE` of the largest message taken; Go clients send what is larger in parts")
	fl.IntVar(&c.MaxConnections, "max-connections", 1024, "`NUMBER` of connections at a time; one more is closed")
	fl.Var(&c.memory, "memory", "`SIZE` of the memory to use: half for messages, half for the store (a store mem: takes what it holds)")
	fl.IntVar(&c.MaxHandles, "max-handles", 1024, "`NUMBER` of readers and listings open at a time, of all clients")
	fl.DurationVar(&c.HandshakeTimeout, "handshake-timeout", 10*time.Second, "`TIME` that a peer has to open its connection")
	fl.DurationVar(&c.IdleTimeout, "idle-timeout", 0, "`TIME` that a connection may be without a message; 0 for ever")
	fl.DurationVar(&c.StallTimeout, "stall-timeout", 30*time.Second, "`TIME` that 512 KiB of a message may take to arrive, or to be taken, and that one may wait for memory")
	fl.DurationVar(&c.DrainTimeout, "drain-timeout", 10*time.Second, "`TIME` that requests under way have to be finished, and peers to take their answers, once the server is told to end")
	fl.BoolVar(&c.AllowClose, "allow-close", false, "let every client end the server (Python's close_server)")
	fl.BoolVar(&c.insecure, "insecure", false, "listen beyond this machine, where everybody may read, change and remove everything")
	fl.StringVar(&c.logFormat, "log-format", "text", "`FORMAT` of the log on standard error: text or json")
	values := map[string][]string{
		"listen": {defaultListen, "ipc:///"}, "store": {"log:", "file:", "buffer+file:", "mem:"}, "log-format": {"text", "json"},
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

// check checks what the flags are together.
func (c *config) check(cmd *cobra.Command) error {
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
	case c.logFormat != "text" && c.logFormat != "json":
		return cliutil.Usagef("--log-format %q: there are text and json", c.logFormat)
	}
	// Half of the memory is for messages, of which two at least must fit.
	if limit := c.memory.Bytes / 4; c.maxMessage.Bytes > limit {
		if cmd.Flags().Changed("max-message") {
			return cliutil.Usagef("--max-message %s wants --memory %s at least, four times as much",
				stores.FormatSize(c.maxMessage.Bytes), stores.FormatSize(4*c.maxMessage.Bytes))
		}
		c.maxMessage.Bytes = limit
	}
	return nil
}
