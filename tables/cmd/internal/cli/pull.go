package cli

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/internal/server/certfiles"
	"github.com/go-partd/partd/tables/pull"
)

// pullConfig holds the flag values of the pull commands.
type pullConfig struct {
	options                       pull.Options
	dir, tokenFile, cert, key, ca string
	share                         string
}

// command adds the common flags to cmd and makes cmd run f with an open node.
func (c *pullConfig) command(cmd *cobra.Command, f func(ctx context.Context, n *pull.Node, args []string) error) *cobra.Command {
	fs := cmd.Flags()
	fs.StringVar(&c.dir, "dir", "pull", "the `DIR` of the node")
	fs.StringVar(&c.options.Registry, "registry", "", "`URLS` of NATS servers, separated by commas (default: this machine's registry)")
	fs.StringVar(&c.tokenFile, "token-file", "", "`FILE` with the token that all nodes share to authenticate each other")
	fs.StringVar(&c.cert, "tls-cert", "", "`FILE` with this node's certificate, in PEM")
	fs.StringVar(&c.key, "tls-key", "", "`FILE` with the certificate's key, in PEM")
	fs.StringVar(&c.ca, "tls-ca", "", "`FILE` with the CA certificates that sign the nodes' certificates, in PEM")
	fs.DurationVar(&c.options.SyncTimeout, "sync-timeout", pull.DefaultSyncTimeout, "wait up to this `DURATION` for the newest version")
	fs.DurationVar(&c.options.Lease, "lease", pull.DefaultLease, "`DURATION` after which a silent node counts as lost")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if n, ok := cmd.Context().Value(sharedNode{}).(*pull.Node); ok {
			return f(cmd.Context(), n, args)
		}
		if err := c.validate(); err != nil {
			return err
		}
		n, err := pull.Open(cmd.Context(), c.dir, &c.options)
		if err != nil {
			return err
		}
		return errors.Join(f(cmd.Context(), n, args), n.Close())
	}
	return cmd
}

func (c *pullConfig) stalenessFlag(fs *pflag.FlagSet) {
	fs.DurationVar(&c.options.MaxStaleness, "max-staleness", 0, "if no node answers, accept a local version that is no older than this `DURATION`")
}

// validate checks the flags and sets c.options from them and from the files that they name.
func (c *pullConfig) validate() error {
	if c.options.SyncTimeout <= 0 || c.options.Lease <= 0 || c.options.MaxStaleness < 0 {
		return cliutil.Usagef("--sync-timeout and --lease must be more than 0, such as 30s, and --max-staleness at least 0")
	}
	c.options.Newest = c.share != ""
	if c.tokenFile != "" {
		secret, err := readSecret("--token-file", c.tokenFile)
		if err != nil {
			return err
		}
		c.options.Token = string(secret)
	}
	if c.cert == "" && c.key == "" && c.ca == "" {
		return nil
	}
	if c.cert == "" || c.key == "" || c.ca == "" {
		return cliutil.Usagef("--tls-cert, --tls-key and --tls-ca must be used together")
	}
	files, err := certfiles.Load(certfiles.Options{
		Cert: c.cert, Key: c.key, ClientCA: c.ca, NeedClient: true, MinVersion: tls.VersionTLS12, Log: c.options.Logger,
	})
	if err != nil {
		return cliutil.Usagef("%w", err)
	}
	c.options.TLS = files.PeerConfig()
	return nil
}

func newPullServe(a *app, run runner) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve a node's tables to other nodes",
		Long: `Serve the tables of a node to other nodes, until SIGTERM or SIGINT. When the node is ready, it
prints the line "ready URL".`,
		Example: "  partd-tables pull serve --registry nats://a:4222,nats://b:4222,nats://c:4222 --listen 10.0.0.7:8082 --token-file token",
	}
	c := &pullConfig{options: pull.Options{Logger: cliutil.NewLog("text", a.errOut)}}
	fs := cmd.Flags()
	fs.StringVar(&c.options.Listen, "listen", "localhost:8082", "`HOST:PORT` to listen on; port 0 picks a free one")
	fs.StringVar(&c.options.Advertise, "advertise", "", "`HOST:PORT` at which other nodes reach this node (default: the address of --listen)")
	exitOnStdinClose := fs.Bool("exit-on-stdin-close", false, "stop when the standard input closes, for example because the parent process ended")
	fs.StringVar(&c.share, "share", "", "share the node with programs of this user at the Unix socket `PATH`, and stop when the last program disconnects")
	c.stalenessFlag(fs)
	return c.command(cmd, func(ctx context.Context, n *pull.Node, _ []string) (err error) {
		var programs *sharing
		if c.share != "" {
			programs, err = listenShare(c.share)
			if err != nil {
				return err
			}
		}
		if _, err := fmt.Fprintf(a.out, "ready %s\n", n.Address()); err != nil {
			return err
		}
		if *exitOnStdinClose {
			var stop context.CancelFunc
			ctx, stop = context.WithCancel(ctx)
			go func() {
				_, _ = io.Copy(io.Discard, a.in) // returns at the end of standard input
				stop()
			}()
		}
		if programs != nil {
			return sharePull(ctx, n, programs, run)
		}
		<-ctx.Done()
		return nil
	})
}

func newPullSave(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "save [flags] [--] NAME FILE",
		Short: "Save the rows of a file",
		Long: `Save the rows of FILE in the table NAME. If the table already has a row with the same time, the
values in FILE replace that row's values; columns that FILE lacks keep their values.`,
		Example: "  partd-tables pull save prices prices.csv",
	}
	format := a.formatFlag(cmd, "format")
	return new(pullConfig).command(cmd, func(ctx context.Context, n *pull.Node, args []string) error {
		input, _, err := a.openInput(args[1], "format", *format)
		if err != nil {
			return err
		}
		defer input.File.Close() //nolint:errcheck // the file was only read
		r, err := input.Read(ctx)
		if err != nil {
			return err
		}
		defer r.Release()
		v, err := n.Save(ctx, args[0], r)
		if err != nil {
			return err
		}
		return a.report("%s: version %d\n", displayName(args[0]), v)
	})
}

func newPullGet(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "get [flags] [--] NAME",
		Short:   "Fetch the missing files of a table and write its rows",
		Example: "  partd-tables pull get prices --from 2026-01-01 --to 2026-02-01 -o january.parquet",
	}
	c, fs := new(pullConfig), cmd.Flags()
	stats := fs.Bool("stats", false, "report the number of requests sent to other nodes and to the registry on standard error, as JSON")
	parseRange := rangeFlags(cmd, "write only rows at or after this `TIME`", "write only rows before this `TIME`")
	out := outputFlags(a, cmd, "format")
	c.stalenessFlag(fs)
	return c.command(cmd, func(ctx context.Context, n *pull.Node, args []string) error {
		from, to, err := parseRange()
		err = errors.Join(err, out.chooseFormat())
		if err != nil {
			return err
		}
		r, err := n.Load(ctx, args[0], from, to)
		err = out.write(ctx, r, err)
		if err != nil || !*stats {
			return err
		}
		return cliutil.NewEncoder(a.errOut).Encode(n.Stats())
	})
}

func newPullList(a *app) *cobra.Command {
	return new(pullConfig).command(&cobra.Command{
		Use:     "list",
		Short:   "List tables, their versions, and the number of nodes that hold them",
		Example: "  partd-tables pull list",
	}, func(ctx context.Context, n *pull.Node, _ []string) error {
		tables, err := n.List(ctx)
		if err != nil {
			return err
		}
		return printList(a.out, false, tables, func(t pull.TableInfo) pull.TableInfo { return t })
	})
}

func newPullVerify(a *app) *cobra.Command {
	return new(pullConfig).command(&cobra.Command{
		Use:   "verify",
		Short: "Check the files of all nodes and repair damaged files",
		Long: `Read all files of the newest versions on this node and all live nodes, check them against their
hashes, and replace damaged files with intact copies from other nodes. Findings are printed as JSON
lines. The command fails if it cannot repair a file.`,
		Example: "  partd-tables pull verify --token-file token",
	}, func(ctx context.Context, n *pull.Node, _ []string) error {
		findings, err := n.Verify(ctx)
		if err != nil {
			return err
		}
		e, unrepaired := cliutil.NewEncoder(a.out), 0
		for _, f := range findings {
			if err := e.Encode(f); err != nil {
				return err
			}
			if !f.Repaired {
				unrepaired++
			}
		}
		if unrepaired > 0 {
			return fmt.Errorf("%d of %d findings could not be repaired", unrepaired, len(findings))
		}
		return nil
	})
}

func newPullForget() *cobra.Command {
	return new(pullConfig).command(&cobra.Command{
		Use:   "forget [flags] [--] NAME",
		Short: "Abandon a table's newest version if all nodes that held it are lost",
		Long: `Abandon the newest version of a table if no node that held it will return, so that the table can
be used again. Within one lease, the newest version on a live node becomes the newest version. If no
live node holds a version, the next save creates the table again. If a node returns with the
abandoned version, that version is the newest again. To recover lost data, restore a backup instead.`,
		Example: "  partd-tables pull forget prices",
	}, func(ctx context.Context, n *pull.Node, args []string) error { return n.Forget(ctx, args[0]) })
}
