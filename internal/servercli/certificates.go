package servercli

import (
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

// certificates are the files of TLS, which are read again when they have changed.
// Files that cannot be used leave what was read before.
type certificates struct {
	cert, key, clientCA string // files; clientCA may be empty
	needClient          bool   // there is no other way to say who a client is
	log                 *slog.Logger

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

func (c *certificates) load() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.loadLocked()
}

func (c *certificates) loadLocked() error {
	c.looked, c.seen = time.Now(), c.states()
	pair, err := tls.LoadX509KeyPair(c.cert, c.key)
	if err != nil {
		return fmt.Errorf("--tls-cert %s with --tls-key %s: %w", c.cert, c.key, err)
	}
	// No tickets: with one, a client would not show its certificate again.
	config := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS13, SessionTicketsDisabled: true}
	if c.clientCA != "" {
		text, err := os.ReadFile(c.clientCA)
		if err != nil {
			return fmt.Errorf("--tls-client-ca: %w", err)
		}
		config.ClientCAs, config.ClientAuth = x509.NewCertPool(), tls.VerifyClientCertIfGiven
		if !config.ClientCAs.AppendCertsFromPEM(text) {
			return fmt.Errorf("--tls-client-ca %s: there is no certificate in it", c.clientCA)
		}
		if c.needClient {
			config.ClientAuth = tls.RequireAndVerifyClientCert
		}
	}
	if leaf := pair.Leaf; leaf != nil && time.Until(leaf.NotAfter) < 0 {
		c.log.Warn("the server's certificate has expired: clients will refuse it", "file", c.cert, "expired", leaf.NotAfter)
	}
	c.config = config
	return nil
}

func (c *certificates) states() (states [3]fileState) {
	for i, name := range []string{c.cert, c.key, c.clientCA} {
		if info, err := os.Stat(name); err == nil {
			states[i] = fileState{info.Size(), info.ModTime()}
		} else if !errors.Is(err, fs.ErrNotExist) {
			states[i].size = -1
		}
	}
	return states
}

// reload reads the files again, as SIGHUP asks for.
func (c *certificates) reload() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reloadLocked()
}

func (c *certificates) reloadLocked() {
	if err := c.loadLocked(); err != nil {
		c.log.Error("the certificates cannot be read again: those from before stay", "error", err)
		return
	}
	c.log.Info("certificates read again", "file", c.cert)
}

// serverConfig asks for the certificates of the moment at each connection.
func (c *certificates) serverConfig() *tls.Config {
	return &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if time.Since(c.looked) > lookEvery {
			if c.looked = time.Now(); c.states() != c.seen {
				c.reloadLocked()
			}
		}
		return c.config, nil
	}}
}
