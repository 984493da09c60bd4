// Package certfiles reads a server's TLS files, and reads them again when they have changed.
package certfiles

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"
)

// Options name the files.
type Options struct {
	Cert, Key, ClientCA string       // ClientCA may be empty
	NeedClient          bool         // there is no other way to say who a client is
	MinVersion          uint16       // of TLS
	Log                 *slog.Logger // nil: none
}

// Certificates are what the files hold. Files that cannot be used leave what was read
// before.
type Certificates struct {
	opts Options

	mu     sync.Mutex
	config *tls.Config
	looked time.Time
	seen   [3]fileState
}

// fileState tells a file from the one that takes its place.
type fileState struct {
	size    int64
	changed time.Time
}

// lookEvery is how often connections make the server look whether files changed.
const lookEvery = time.Second

// Load reads the files.
func Load(o Options) (*Certificates, error) {
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	c := &Certificates{opts: o}
	return c, c.loadLocked()
}

func (c *Certificates) loadLocked() error {
	c.looked, c.seen = time.Now(), c.states()
	pair, err := tls.LoadX509KeyPair(c.opts.Cert, c.opts.Key)
	if err != nil {
		return fmt.Errorf("--tls-cert %s with --tls-key %s: %w", c.opts.Cert, c.opts.Key, err)
	}
	// No tickets: with one, a client would not show its certificate again.
	config := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: c.opts.MinVersion, SessionTicketsDisabled: true}
	if c.opts.ClientCA != "" {
		config.ClientAuth = tls.VerifyClientCertIfGiven
		if config.ClientCAs, err = Authorities(c.opts.ClientCA); err != nil {
			return fmt.Errorf("client certificates: %w", err)
		}
		if c.opts.NeedClient {
			config.ClientAuth = tls.RequireAndVerifyClientCert
		}
	}
	if leaf := pair.Leaf; leaf != nil && time.Until(leaf.NotAfter) < 0 {
		c.opts.Log.Warn("the server's certificate has expired: clients will refuse it", "file", c.opts.Cert, "expired", leaf.NotAfter)
	}
	c.config = config
	return nil
}

// Authorities reads the certificates of a file.
func Authorities(name string) (*x509.CertPool, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s: it holds no certificate", name)
	}
	return pool, nil
}

func (c *Certificates) states() (states [3]fileState) {
	for i, name := range []string{c.opts.Cert, c.opts.Key, c.opts.ClientCA} {
		if info, err := os.Stat(name); err == nil {
			states[i] = fileState{info.Size(), info.ModTime()}
		} else if !errors.Is(err, fs.ErrNotExist) {
			states[i].size = -1
		}
	}
	return states
}

// Reload reads the files again, as SIGHUP asks for.
func (c *Certificates) Reload() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reloadLocked()
}

func (c *Certificates) reloadLocked() {
	if err := c.loadLocked(); err != nil {
		c.opts.Log.Error("cannot reload the certificates: the old ones stay in use", "error", err)
		return
	}
	c.opts.Log.Info("certificates reloaded", "file", c.opts.Cert)
}

// ServerConfig asks for the certificates of the moment at each connection.
func (c *Certificates) ServerConfig() *tls.Config {
	return &tls.Config{MinVersion: c.opts.MinVersion, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return c.current(), nil }}
}

// Certificate is for servers whose tls.Config is their own.
func (c *Certificates) Certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return &c.current().Certificates[0], nil
}

// PeerConfig is for those who are both a server and a client of their like. The
// authorities that they trust as a client are those of the start.
func (c *Certificates) PeerConfig() *tls.Config {
	now := c.current()
	return &tls.Config{
		MinVersion: c.opts.MinVersion, ClientAuth: now.ClientAuth, RootCAs: now.ClientCAs,
		GetConfigForClient:   func(*tls.ClientHelloInfo) (*tls.Config, error) { return c.current(), nil },
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return c.Certificate(nil) },
	}
}

func (c *Certificates) current() *tls.Config {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.looked) > lookEvery {
		if c.looked = time.Now(); c.states() != c.seen {
			c.reloadLocked()
		}
	}
	return c.config
}
