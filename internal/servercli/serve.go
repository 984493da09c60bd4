package servercli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/cliutil"
	"github.com/go-partd/partd/internal/namespaces"
	"github.com/go-partd/partd/logstore"
	"github.com/go-partd/partd/remote"
)

// serve runs the server until ctx ends, a client that may do so ends it, or it
// fails.
func serve(ctx context.Context, c *config, s streams) (err error) {
	log := cliutil.NewLog(c.logFormat, s.err)
	a, err := readAccess(c, log)
	if err != nil {
		return err
	}
	defer onHangup(func() { a.reload(log) })()
	listeners, err := listen(c, a)
	if err != nil {
		return err
	}
	// Who serves a listener closes it. Until then it is this function.
	defer func() {
		for _, l := range listeners {
			_ = l.Close() // most often the second time
		}
	}()
	told := &admin{started: time.Now()}
	if c.http != "" {
		l, err := listenAdmin(c)
		if err != nil {
			return err
		}
		defer told.serve(l, c.pprof, log)()
	}
	store, err := openStore(ctx, c)
	if err != nil {
		return err
	}
	beside := new(namespaces.Options)
	guard, err := c.room.limit(context.WithoutCancel(ctx), c.store, store, beside, log)
	if err != nil {
		return errors.Join(err, partd.Close(context.WithoutCancel(ctx), store))
	}
	c.Room = guard
	c.MaxMessage, c.Memory, c.Logger = c.maxMessage.Bytes, c.memory.Bytes/2, log
	if a.users != nil {
		c.Authorizer = a.users
	}
	set, err := c.openNamespaces(store, beside, log)
	if err != nil {
		return errors.Join(err, partd.Close(context.WithoutCancel(ctx), store))
	}
	server, err := remote.NewServer(store, &c.ServerOptions)
	if err != nil {
		return errors.Join(err, partd.Close(context.WithoutCancel(ctx), store))
	}
	logStore, _ := bottom(store).(*logstore.Store)
	told.serving.Store(&serving{server, logStore, guard, set, &c.room})
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	if c.stopWithin > 0 {
		defer context.AfterFunc(ctx, func() {
			time.Sleep(c.stopWithin)
			log.Error("ending at once: the time of --stop-timeout is over, and what is not written is lost", "store", c.store)
			os.Exit(cliutil.ExitFailed)
		})()
	}
	if c.withStdin {
		go func() {
			_, err := io.Copy(io.Discard, s.in) // until whoever has the other end closes it, or dies
			log.Info("standard input is closed", "error", err)
			stop()
		}()
	}
	for _, l := range listeners {
		log.Info("listening", "address", remote.URL(l.Addr()), "store", c.store, "users", a.users != nil, "trusted", l.opts.Trusted)
		if why := c.exposes(remote.URL(l.Addr())); why != "" && remote.BeyondLoopback(l.Addr()) {
			log.Warn("--insecure: "+why, "address", remote.URL(l.Addr()))
		}
	}
	err = serveAll(ctx, server, listeners, s.out)
	stop()
	log.Info("ending: flushing the store, finishing the requests under way, then closing the store", "drain_timeout", c.DrainTimeout)
	// Writing out has as long as it takes: a second signal, or --stop-timeout, ends the process.
	err = errors.Join(err, server.Shutdown(context.WithoutCancel(ctx)))
	if err == nil {
		log.Info("ended")
	}
	return err
}

// serveAll serves each listener, and says that it does.
func serveAll(ctx context.Context, server *remote.Server, listeners []listener, out io.Writer) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	errs := make([]error, len(listeners))
	var failed error
	var wg sync.WaitGroup
	for i, l := range listeners {
		told := &accepting{Listener: l, begun: make(chan struct{})}
		wg.Go(func() {
			if err := server.ServeWith(ctx, told, &l.opts); err != nil {
				errs[i] = err
				stop(err) // one address that fails ends all: whoever watches the process knows
			}
		})
		select {
		case <-told.begun:
		case <-ctx.Done():
			continue
		}
		if _, err := fmt.Fprintf(out, "ready %s\n", remote.URL(l.Addr())); err != nil {
			stop(err)
			failed = fmt.Errorf("printing that the server is ready: %w", err)
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
