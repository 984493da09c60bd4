package servercli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/internal/command/namespaces"
	"github.com/go-partd/partd/internal/server/adminhttp"
	"github.com/go-partd/partd/internal/server/audit"
	"github.com/go-partd/partd/logstore"
	"github.com/go-partd/partd/remote"
)

// storeFiles is the number of files that a store with little data keeps open.
const storeFiles = 64

// serve runs the server until ctx ends, an authorized client ends it, or it fails.
func serve(ctx context.Context, c *config, s streams) (err error) {
	startReloading, stopReloading := cliutil.CatchHangups()
	defer stopReloading()
	log := cliutil.NewLog(c.logFormat, s.err)
	a, err := readAccess(c, log)
	if err != nil {
		return err
	}
	if c.auditLog != "" {
		a.audit, err = audit.Open(c.auditLog, s.err, log)
		if err != nil {
			return fmt.Errorf("--audit-log: %w", err)
		}
		defer func() { err = errors.Join(err, a.audit.Close()) }()
		c.Audit = a.audit
	}
	startReloading(func() { a.reload(log) })
	listeners, err := listen(c, a)
	if err != nil {
		return err
	}
	defer func() {
		for _, l := range listeners {
			_ = l.Close() // usually fails, because ServeWith has closed the listener
		}
	}()
	cliutil.WarnFileLimit(log, c.MaxConnections, adminhttp.MaxConnections+storeFiles)
	adminServer := &admin{started: time.Now()}
	if c.http != "" {
		l, err := listenAdmin(c)
		if err != nil {
			return err
		}
		defer adminServer.serve(l, c, log)() // serves from now on; stops when this function returns
	}
	store, err := openStore(ctx, c)
	if err != nil {
		return err
	}
	cliutil.WarnTorn(log, store)
	if a.users != nil {
		c.Authorizer = a.users
	}
	state, err := newServer(context.WithoutCancel(ctx), c, store, log)
	if err != nil {
		return errors.Join(err, partd.Close(context.WithoutCancel(ctx), store))
	}
	adminServer.serving.Store(state)
	server := state.server
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	if c.stopTimeout > 0 {
		defer context.AfterFunc(ctx, func() {
			time.Sleep(c.stopTimeout)
			log.Error("exiting immediately: --stop-timeout has passed, and unwritten data is lost", "store", c.store)
			os.Exit(cliutil.ExitFailed)
		})()
	}
	if c.exitOnStdinClose {
		go func() {
			_, err := io.Copy(io.Discard, s.in) // returns when the other end is closed or its process dies
			log.Info("standard input is closed", "error", err)
			stop()
		}()
	}
	c.logListeners(log, listeners, a.users != nil)
	err = serveAll(ctx, server, listeners, s.out)
	stop()
	log.Info("stopping: flushing the store, finishing the requests in progress, then closing the store", "drain_timeout", c.DrainTimeout)
	// The flush has no time limit: only a second signal or --stop-timeout ends the process earlier.
	err = errors.Join(err, server.Shutdown(context.WithoutCancel(ctx)))
	if err != nil {
		return err
	}
	log.Info("ended")
	return nil
}

// logListeners logs each address and warns if others can reach it without TLS or users.
func (c *config) logListeners(log *slog.Logger, listeners []listener, hasUsers bool) {
	for _, l := range listeners {
		log.Info("listening", "address", remote.URL(l.Addr()), "store", c.store, "users", hasUsers, "trusted", l.opts.Trusted)
		if risk := c.exposure(remote.URL(l.Addr())); risk != "" && remote.IsExposed(l.Addr()) {
			log.Warn("--insecure: "+risk, "address", remote.URL(l.Addr()))
		}
	}
}

// newServer returns a server for store, with the limits and namespaces that c configures. The
// server closes store.
func newServer(ctx context.Context, c *config, store partd.Partd, log *slog.Logger) (*serving, error) {
	var namespaceOpts namespaces.Options
	guard, err := c.space.newGuard(ctx, c.store, store, &namespaceOpts, log)
	if err != nil {
		return nil, err
	}
	c.SpaceLimit = guard
	c.MaxMessage, c.Memory, c.Logger = c.maxMessage.Bytes, c.memory.Bytes/2, log
	namespaceSet, err := c.openNamespaces(store, &namespaceOpts, log)
	if err != nil {
		return nil, err
	}
	server, err := remote.NewServer(store, &c.ServerOptions)
	logStore, _ := cliutil.BottomStore(store).(*logstore.Store)
	dir := directoryOf(c.store)
	if strings.Contains(c.store, "readonly=true") {
		dir = ""
	}
	return &serving{server, logStore, guard, namespaceSet, &c.space, dir}, err
}

// serveAll serves each listener. It prints a line when a listener accepts connections.
func serveAll(ctx context.Context, server *remote.Server, listeners []listener, out io.Writer) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	errs := make([]error, len(listeners))
	var printErr error
	var wg sync.WaitGroup
	for i, l := range listeners {
		notifier := &acceptNotifier{Listener: l, accepting: make(chan struct{})}
		wg.Go(func() {
			if err := server.ServeWith(ctx, notifier, &l.opts); err != nil {
				errs[i] = err
				stop(err) // one failed address ends the server, so that a supervisor notices
			}
		})
		if canceled.Wait(ctx, notifier.accepting) != nil {
			continue
		}
		if _, err := fmt.Fprintf(out, "ready %s\n", remote.URL(l.Addr())); err != nil {
			stop(err)
			printErr = fmt.Errorf("printing that the server is ready: %w", err)
			break
		}
	}
	select {
	case <-ctx.Done():
	case <-server.CloseRequested():
		stop(nil)
	}
	wg.Wait()
	return errors.Join(append(errs, printErr)...)
}

type listener struct {
	net.Listener
	opts remote.ServeOptions
}

// acceptNotifier is a listener that reports its first call of Accept, so that serveAll can then
// print "ready".
type acceptNotifier struct {
	net.Listener
	once      sync.Once
	accepting chan struct{} // closed by the first call of Accept
}

func (a *acceptNotifier) Accept() (net.Conn, error) {
	a.once.Do(func() { close(a.accepting) })
	return a.Listener.Accept()
}

// listen listens on all addresses. If one fails, it closes the others.
func listen(c *config, a *access) ([]listener, error) {
	var listeners []listener
	fail := func(err error) ([]listener, error) {
		for _, l := range listeners {
			err = errors.Join(err, l.Close())
		}
		return nil, err
	}
	for _, text := range c.listen {
		url, namespace, hasNamespace := strings.Cut(text, "=")
		if hasNamespace {
			if err := remote.CheckNamespace(namespace); err != nil {
				return fail(cliutil.Usagef("--listen %q: %w", text, err))
			}
		}
		err := c.checkAddress(url)
		if err != nil {
			return fail(err)
		}
		var l net.Listener
		if isTLS(url) {
			l, err = remote.ListenTLS(url, a.certificates.ServerConfig())
		} else {
			l, err = remote.Listen(url)
		}
		if err != nil {
			return fail(err)
		}
		listeners = append(listeners, listener{l, remote.ServeOptions{Namespace: namespace, Trusted: c.trustSockets && isSocket(url)}})
		if remote.IsExposed(l.Addr()) && !c.insecure && c.exposure(url) != "" {
			return fail(c.exposedError(url))
		}
	}
	return listeners, nil
}

// checkAddress checks the syntax of an address before it is opened. It also refuses an address that
// other machines can reach, unless such access is safe or allowed by --insecure. It does not
// resolve host names; listen checks the address that a host name resolves to.
func (c *config) checkAddress(url string) error {
	if isSocket(url) {
		return nil
	}
	scheme, rest, _ := strings.Cut(url, "://")
	if scheme != "tcp" && scheme != "tls" {
		return cliutil.Usagef("--listen %q: write tcp://HOST:PORT, tls://HOST:PORT or ipc:///PATH, followed by =NAME to serve one namespace", url)
	}
	host, port, err := net.SplitHostPort(rest)
	if err != nil || port == "" {
		return cliutil.Usagef("--listen %q: write %s://HOST:PORT, with port 0 for a free one", url, scheme)
	}
	if _, err := net.LookupPort("tcp", port); err != nil {
		return cliutil.Usagef("--listen %q: %q is not a port", url, port)
	}
	ip := net.ParseIP(host)
	isWildcard := host == "" || host == "*"
	if !c.insecure && c.exposure(url) != "" && (isWildcard || ip != nil && !ip.IsLoopback()) {
		return c.exposedError(url)
	}
	return nil
}

// exposure describes what other machines could do through an address. It returns "" if the address
// is protected by TLS and users.
func (c *config) exposure(url string) string {
	switch {
	case isTLS(url) && c.hasUsers():
		return ""
	case c.hasUsers():
		return "others can read tokens and data in transit to this address"
	}
	return "anyone who can reach this address may read, change and remove everything"
}

func (c *config) exposedError(url string) error {
	if c.hasUsers() {
		return cliutil.Usagef("--listen %s can be reached from other machines, and without TLS others can read the tokens in transit. "+
			"Listen on tls://HOST:PORT with --tls-cert and --tls-key, or give --insecure if nobody can eavesdrop on the network", url)
	}
	return cliutil.Usagef("--listen %s can be reached from other machines, and there is no authentication: anyone who connects could read, "+
		"change and remove everything. Listen on tls://HOST:PORT with --tokens-file or --tls-client-ca; or on tcp://127.0.0.1:PORT or ipc:///PATH, "+
		"with a tunnel for others (ssh -L); or give --insecure if only authorized people can reach the network", url)
}
