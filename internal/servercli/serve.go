package servercli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/cliutil"
	"github.com/go-partd/partd/remote"
	"github.com/go-partd/partd/stores"
)

// serve runs the server until ctx ends, a client that may do so ends it, or it
// fails.
func serve(ctx context.Context, c *config, s streams) (err error) {
	log := newLog(c.logFormat, s.err)
	defer ignoreHangups(log)()
	listeners, err := listen(c)
	if err != nil {
		return err
	}
	// Who serves a listener closes it. Until then it is this function.
	defer func() {
		for _, l := range listeners {
			_ = l.Close() // most often the second time
		}
	}()
	store, err := openStore(ctx, c)
	if err != nil {
		return err
	}
	c.MaxMessage, c.Memory, c.Logger = c.maxMessage.Bytes, c.memory.Bytes/2, log
	server, err := remote.NewServer(store, &c.ServerOptions)
	if err != nil {
		return errors.Join(err, partd.Close(context.WithoutCancel(ctx), store))
	}
	for _, l := range listeners {
		log.Info("listening", "address", remote.URL(l.Addr()), "store", c.store)
		if beyondLoopback(l.Addr()) {
			log.Warn("everybody who can reach this address may read, change and remove everything", "address", remote.URL(l.Addr()))
		}
	}
	err = serveAll(ctx, server, listeners, s.out)
	log.Info("ending: flushing the store, finishing the requests under way, then closing the store", "drain_timeout", c.DrainTimeout)
	// Writing out has as long as it takes: a second signal ends the process.
	err = errors.Join(err, server.Shutdown(context.WithoutCancel(ctx)))
	if err == nil {
		log.Info("ended")
	}
	return err
}

// ignoreHangups logs SIGHUP, which would end the process otherwise, with what a
// buffer holds.
func ignoreHangups(log *slog.Logger) (stop func()) {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	go func() {
		for range hangups {
			log.Info("SIGHUP: the server goes on; there is nothing that it reads again. SIGTERM ends it")
		}
	}()
	return func() {
		signal.Stop(hangups)
		close(hangups)
	}
}

// serveAll serves each listener, and says that it does.
func serveAll(ctx context.Context, server *remote.Server, listeners []net.Listener, out io.Writer) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	errs := make([]error, len(listeners))
	var failed error
	var wg sync.WaitGroup
	for i, l := range listeners {
		wg.Go(func() {
			if err := server.Serve(ctx, l); err != nil {
				errs[i] = err
				stop(err) // one address that fails ends all: whoever watches the process knows
			}
		})
		if _, err := fmt.Fprintf(out, "ready %s\n", remote.URL(l.Addr())); err != nil {
			stop(err)
			failed = fmt.Errorf("saying that the server is ready: %w", err)
			break
		}
	}
	select {
	case <-ctx.Done():
	case <-server.CloseRequested():
		stop(nil)
	}
	wg.Wait()
	return errors.Join(append(errs, failed)...)
}

// listen opens all addresses, or none.
func listen(c *config) ([]net.Listener, error) {
	var listeners []net.Listener
	fail := func(err error) ([]net.Listener, error) {
		for _, l := range listeners {
			err = errors.Join(err, l.Close())
		}
		return nil, err
	}
	for _, url := range c.listen {
		if err := allowed(c, url); err != nil {
			return fail(err)
		}
		l, err := remote.Listen(url)
		if err != nil {
			return fail(err)
		}
		listeners = append(listeners, l)
		if beyondLoopback(l.Addr()) && !c.insecure {
			return fail(exposed(url))
		}
	}
	return listeners, nil
}

// allowed refuses an address that can be reached from elsewhere before it is
// opened. A name is looked up by opening it; what that finds is checked again.
func allowed(c *config, url string) error {
	rest, isTCP := strings.CutPrefix(url, "tcp://")
	if !isTCP && !strings.HasPrefix(url, "ipc://") {
		return cliutil.Usagef("--listen %q: write tcp://HOST:PORT or ipc:///PATH", url)
	}
	if !isTCP {
		return nil
	}
	host, port, err := net.SplitHostPort(rest)
	if err != nil || port == "" {
		return cliutil.Usagef("--listen %q: write tcp://HOST:PORT, with port 0 for a free one", url)
	}
	if _, err := net.LookupPort("tcp", port); err != nil {
		return cliutil.Usagef("--listen %q: %q is no port", url, port)
	}
	ip := net.ParseIP(host)
	if everywhere := host == "" || host == "*"; !c.insecure && (everywhere || ip != nil && !ip.IsLoopback()) {
		return exposed(url)
	}
	return nil
}

func exposed(url string) error {
	return cliutil.Usagef("--listen %s can be reached from other machines, and there is no authentication: whoever connects could read, "+
		"change and remove everything. Listen on tcp://127.0.0.1:PORT or ipc:///PATH, and let others in by a tunnel (ssh -L), "+
		"or give --insecure if the network lets in only those who may", url)
}

// openStore opens the store. Options in its URL go before those of the command.
func openStore(ctx context.Context, c *config) (partd.Partd, error) {
	scheme, _, _ := strings.Cut(c.store, ":")
	const maxForLog = 8 << 30
	share := min(c.memory.Bytes/2/int64(1+strings.Count(scheme, "+")), maxForLog)
	if scheme != "mem" {
		// The heap holds the messages, and what the store does not keep apart: a
		// log has three quarters of its memory outside, which are there in the end.
		heap := c.memory.Bytes + c.memory.Bytes/16
		if strings.HasSuffix(scheme, "log") {
			heap = c.memory.Bytes - share/4*3
		}
		debug.SetMemoryLimit(heap)
	}
	store, err := stores.OpenDefaults(ctx, c.store, map[string]string{"memory": strconv.FormatInt(share, 10)})
	if errors.As(err, new(*stores.URLError)) {
		return nil, cliutil.Usagef("--store: %w", err)
	}
	return store, err
}

func newLog(format string, w io.Writer) *slog.Logger {
	if format == "json" {
		return slog.New(limitWarnings(slog.NewJSONHandler(w, nil)))
	}
	return slog.New(limitWarnings(slog.NewTextHandler(w, nil)))
}
