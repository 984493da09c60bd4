package remote

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/go-partd/partd/internal/disk/vfs"
)

// Listen listens at a URL: tcp://HOST:PORT, where port 0 chooses a free port, or ipc:///PATH, a
// Unix socket that only its owner may use (mode 0600). Listen replaces the socket of a killed
// server, but fails if the socket is in use or the file is not a socket.
func Listen(rawURL string) (net.Listener, error) {
	a, err := parseURL(rawURL)
	if err != nil {
		return nil, fmt.Errorf("remote: %w", err)
	}
	if a.secure || a.namespace != "" {
		return nil, fmt.Errorf("remote: listen on %s: write tcp://HOST:PORT or ipc:///PATH", rawURL)
	}
	if a.network == "tcp" {
		l, err := net.Listen("tcp", a.address)
		if err != nil {
			return nil, fmt.Errorf("remote: %w", err)
		}
		return l, nil
	}
	l, err := listenUnix(a.address)
	if err != nil {
		return nil, fmt.Errorf("remote: listen on %s: %w", rawURL, err)
	}
	return l, nil
}

// listenUnix listens on a socket file. It locks the directory while it checks whether the socket
// is in use. Otherwise two servers that start at the same time could remove each other's sockets.
func listenUnix(path string) (net.Listener, error) {
	if runtime.GOOS == "windows" {
		return nil, fmt.Errorf("a Unix socket needs flock, which Windows lacks: listen on tcp://: %w", errors.ErrUnsupported)
	}
	ctx, cancel := context.WithTimeout(context.Background(), lockTimeout)
	defer cancel()
	lock, err := vfs.WaitLock(ctx, vfs.DirLocks{}, filepath.Dir(path), true)
	if errors.Is(err, context.DeadlineExceeded) {
		return nil, fmt.Errorf("another process has held the directory's lock for %v, so it is unknown whether the socket is in use: end that process, or put the socket in a directory that only the server uses: %w",
			lockTimeout, syscall.EWOULDBLOCK)
	} else if err != nil {
		return nil, fmt.Errorf("lock the directory: %w", err)
	}
	defer func() { _ = lock.Unlock() }() // the lock also ends with the process
	if err := removeStale(path); err != nil {
		return nil, err
	}
	// Set the mode before the socket is bound, so that other users can never connect. On Linux,
	// the file gets this mode when it is created.
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { makePrivate(fd) })
	}}
	l, err := config.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, err
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	socket := &unixListener{Listener: l, path: path}
	socket.info, err = os.Lstat(path)
	if err == nil {
		err = os.Chmod(path, 0o600)
	}
	if err != nil {
		return nil, errors.Join(err, socket.Close())
	}
	return socket, nil
}

// lockTimeout limits the wait for the directory's lock. Anyone who can read the directory can hold
// that lock forever.
const lockTimeout = 5 * time.Second

// unixListener is a listener that removes its socket file on Close, unless another file
// has replaced it.
type unixListener struct {
	net.Listener
	path string
	info fs.FileInfo
	once sync.Once
}

func (o *unixListener) Close() (err error) {
	// Remove the file before closing the socket: while the socket is open, no other file can get its
	// inode number, so SameFile is reliable.
	o.once.Do(func() {
		if current, e := os.Lstat(o.path); e == nil && o.info != nil && os.SameFile(current, o.info) {
			err = os.Remove(o.path)
		}
	})
	return errors.Join(err, o.Listener.Close())
}

// removeStale removes a socket file on which no process listens.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return errors.New("the file is not a socket")
	}
	c, err := net.DialTimeout("unix", path, 2*time.Second)
	if err == nil {
		return errors.Join(fmt.Errorf("another server is using the socket: %w", syscall.EADDRINUSE), c.Close())
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("cannot determine whether another server is using the socket: %w", err)
	}
	return os.Remove(path)
}

// ListenTLS listens at a URL, tls://HOST:PORT, and accepts TLS 1.3 or later. Accept returns
// before the TLS handshake, which the server performs within its HandshakeTimeout.
func ListenTLS(rawURL string, config *tls.Config) (net.Listener, error) {
	a, err := parseURL(rawURL)
	switch {
	case err != nil:
		return nil, fmt.Errorf("remote: %w", err)
	case !a.secure || a.namespace != "":
		return nil, fmt.Errorf("remote: listen on %s: write tls://HOST:PORT", rawURL)
	case config == nil:
		return nil, errors.New("remote: TLS needs a certificate")
	}
	l, err := net.Listen("tcp", a.address)
	if err != nil {
		return nil, fmt.Errorf("remote: %w", err)
	}
	return tlsListener{tls.NewListener(l, withSecureSettings(config))}, nil
}

// withSecureSettings returns a copy of config with the settings of all clients and servers.
func withSecureSettings(config *tls.Config) *tls.Config {
	config = config.Clone()
	config.MinVersion = tls.VersionTLS13
	config.DynamicRecordSizingDisabled = true // send whole messages rather than small records
	if choose := config.GetConfigForClient; choose != nil {
		config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			chosen, err := choose(hello)
			if err == nil && chosen != nil {
				chosen = chosen.Clone()
				chosen.MinVersion, chosen.DynamicRecordSizingDisabled = tls.VersionTLS13, true
			}
			return chosen, err
		}
	}
	return config
}

// tlsListener is a TLS listener. Its address has the network tls, so that [URL] returns a tls:// URL.
type tlsListener struct{ net.Listener }

func (l tlsListener) Addr() net.Addr { return tlsAddr{l.Listener.Addr()} }

type tlsAddr struct{ net.Addr }

func (tlsAddr) Network() string { return "tls" }

// hangUp closes a connection without waiting for a peer that may not read.
func hangUp(nc net.Conn) {
	if s, ok := nc.(*tls.Conn); ok {
		nc = s.NetConn() // closing s itself would first send a message
	}
	_ = nc.Close() // ignore the error, because the connection is abandoned
}
