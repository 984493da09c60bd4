// Package servercli is the command line of partd-server.
package servercli

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/go-partd/partd/internal/base/textfmt"
	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/stores"
)

type streams struct {
	in       io.Reader
	out, err io.Writer
}

// Main runs the command line with the process's streams and signals and returns the exit code. After
// the first SIGINT or SIGTERM, the server finishes the requests in progress. Another signal, at least
// a second later, ends the process immediately.
func Main(args []string) int { return MainWith(nil, args) }

// MainWith is like Main, but opens stores with the schemes in set; nil means the schemes of package
// stores.
func MainWith(set *stores.Set, args []string) int {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan int, 1)
	s := streams{os.Stdin, os.Stdout, os.Stderr}
	go func() { done <- run(ctx, set, args, s) }()
	select {
	case code := <-done:
		return code
	case <-signals:
		cancel()
	}
	for start := time.Now(); ; {
		select {
		case code := <-done:
			return code
		case sig := <-signals:
			if time.Since(start) < repeatWindow {
				continue
			}
			fmt.Fprintln(s.err, "partd-server: second signal: exiting immediately, without finishing the requests in progress")
			if number, ok := sig.(syscall.Signal); ok {
				return 128 + int(number) // the exit code that shells report for a process killed by a signal
			}
			return cliutil.ExitFailed
		}
	}
}

// repeatWindow is the time after the first signal during which other signals are ignored.
// timeout(1) and shells send the same signal twice: to the process and to its group.
const repeatWindow = time.Second

func run(ctx context.Context, set *stores.Set, args []string, s streams) int {
	program, root := newProgram(set, s)
	_, err := program.Execute(ctx, root, args)
	if err == nil {
		return cliutil.ExitOK
	}
	if cliutil.IsUsage(err) {
		return program.Fail(cliutil.ExitUsage, err, textfmt.RedactURLs(err.Error()), `Try "partd-server --help".`)
	}
	return program.Fail(cliutil.ExitFailed, err, textfmt.RedactURLs(err.Error()))
}

const help = `partd-server shares one store among many Go and Python processes. It speaks ZeroMQ's
protocol over TCP and Unix sockets. A Go program opens the store with the URL
tcp://HOST:PORT, and Python's partd opens it with partd.Client("tcp://HOST:PORT").

When the server accepts connections at an address, it prints "ready URL" for that
address. If the port is 0, the system chooses one. On SIGTERM or SIGINT, the server
flushes the store, finishes the requests in progress (for at most --drain-timeout),
closes the store and exits. A second signal makes it exit immediately. On SIGHUP, it
rereads the users and the certificates.

A server with neither --tokens-file nor --tls-client-ca has no users: anyone who can
connect may read, change and remove everything. Therefore the server accepts
connections from other machines only if it has both users and TLS, or if --insecure
is given.`

const examples = `  partd-server
  partd-server --store file:/data/shared --listen ipc:///run/partd/partd.sock
  partd-server --listen tcp://127.0.0.1:7077 --listen 'tcp://[::1]:7077'
  partd-server --listen tls://:7077 --tls-cert cert.pem --tls-key key.pem --tokens-file users
  partd-server --store 'log:/data/partd?sync=true' --memory 2GiB --log-format json`

// Root returns the commands, for manual pages.
func Root() *cobra.Command {
	_, root := newProgram(nil, streams{})
	return root
}

func newProgram(set *stores.Set, s streams) (*cliutil.Program, *cobra.Command) {
	c := &config{stores: set}
	root := &cobra.Command{
		Use:     "partd-server",
		Short:   "Share one store among many Go and Python processes",
		Long:    help,
		Example: examples,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return cliutil.Usagef("%q is not a command: the commands are token, health, completion and version", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := c.check(cmd); err != nil {
				return err
			}
			return serve(cmd.Context(), c, s)
		},
	}
	c.add(root)
	completion := cliutil.NewCompletion(s.out, "flags")
	completion.Example = `  partd-server completion --install bash
  source <(partd-server completion bash)
  partd-server completion fish | source`
	root.AddCommand(newToken(s), cliutil.NewHealth(s.out, "partd-server", "http"), completion, cliutil.NewVersion(s.out, "partd-server"))
	root.SetHelpCommand(&cobra.Command{Use: "no-help", Hidden: true})
	p := &cliutil.Program{
		// The prefix differs from partd's, because PARTD_STORE can be the URL of this server.
		Env: &cliutil.Env{Prefix: "PARTD_SERVER_", Lists: []string{"listen"}},
		Out: s.out, Err: s.err,
		ExitCodes: `0 stopped on request, 1 failed, 2 wrong usage, 130 and 143 stopped
immediately by a second signal.`,
	}
	return p, p.Root(root)
}
