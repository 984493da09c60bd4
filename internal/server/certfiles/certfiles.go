// Package certfiles reads a server's TLS files and rereads them when they change.
package certfiles

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// Options names the files and configures their use.
type Options struct {
	Cert, Key, ClientCA string       // ClientCA may be empty
	NeedClient          bool         // reject clients without a certificate
	MinVersion          uint16       // TLS version
	Log                 *slog.Logger // nil means no logging
}

// Certificates holds the contents of the files. If a changed file cannot be used, the
// previous contents stay in use.
type Certificates struct {
	opts Options

	mu        sync.Mutex
	config    *tls.Config
	checkedAt time.Time
	contents  [3]string // the files' contents just before they were loaded
}

// checkInterval is the minimum time between two checks for changed files.
const checkInterval = time.Second

// Load reads the files.
func Load(o Options) (*Certificates, error) {
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	c := &Certificates{opts: o}
	return c, c.loadLocked()
}

func (c *Certificates) loadLocked() error {
	c.checkedAt, c.contents = time.Now(), c.readAll()
	pair, err := tls.LoadX509KeyPair(c.opts.Cert, c.opts.Key)
	if err != nil {
		return fmt.Errorf("--tls-cert %s with --tls-key %s: %w", c.opts.Cert, c.opts.Key, err)
	}
	// Session tickets would let a client resume without presenting its certificate again.
	config := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: c.opts.MinVersion, SessionTicketsDisabled: true}
	if c.opts.ClientCA != "" {
		config.ClientAuth = tls.VerifyClientCertIfGiven
		config.ClientCAs, err = ReadAuthorities(c.opts.ClientCA)
		if err != nil {
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

// ReadAuthorities reads the PEM certificates in a file.
func ReadAuthorities(name string) (*x509.CertPool, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s: the file contains no PEM certificate", name)
	}
	return pool, nil
}

// readAll returns the contents of the files or, if one cannot be read, the error message. Comparing sizes and times
// would miss a change within the granularity of the times. readAll skips pipes, whose bytes can be read only once.
func (c *Certificates) readAll() (contents [3]string) {
	for i, name := range []string{c.opts.Cert, c.opts.Key, c.opts.ClientCA} {
		info, err := os.Stat(name)
		if err == nil && info.Mode().IsRegular() {
			var b []byte
			b, err = os.ReadFile(name)
			contents[i] = string(b)
		}
		if err != nil {
			contents[i] = err.Error()
		}
	}
	return contents
}

// Reload reads the files again.
func (c *Certificates) Reload() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reloadLocked()
}

func (c *Certificates) reloadLocked() {
	if err := c.loadLocked(); err != nil {
		c.opts.Log.Error("cannot reload the certificates: the previous ones stay in use", "error", err)
		return
	}
	c.opts.Log.Info("certificates reloaded", "file", c.opts.Cert)
}

// ServerConfig returns a configuration that uses the current certificates for each new
// connection.
func (c *Certificates) ServerConfig() *tls.Config {
	return &tls.Config{MinVersion: c.opts.MinVersion, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return c.current(), nil }}
}

// Certificate returns the server's current certificate. It has the signature of
// tls.Config.GetCertificate.
func (c *Certificates) Certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return &c.current().Certificates[0], nil
}

// PeerConfig returns a configuration for a program that is both a server and a client of its
// peers. As a client, it trusts the authorities that were in use at the time of the call.
func (c *Certificates) PeerConfig() *tls.Config {
	current := c.current()
	return &tls.Config{
		MinVersion: c.opts.MinVersion, ClientAuth: current.ClientAuth, RootCAs: current.ClientCAs,
		GetConfigForClient:   func(*tls.ClientHelloInfo) (*tls.Config, error) { return c.current(), nil },
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return c.Certificate(nil) },
	}
}

func (c *Certificates) current() *tls.Config {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.checkedAt) > checkInterval {
		c.checkedAt = time.Now()
		if c.readAll() != c.contents {
			c.reloadLocked()
		}
	}
	return c.config
}
