package servercli

import (
	"crypto/tls"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/go-partd/partd/internal/certfiles"
	"github.com/go-partd/partd/internal/cliutil"
	"github.com/go-partd/partd/remote/tokens"
)

// access is who may connect: what is read again at SIGHUP.
type access struct {
	users        *tokens.Users           // nil without any
	certificates *certfiles.Certificates // nil without TLS
}

func readAccess(c *config, log *slog.Logger) (*access, error) {
	a := &access{}
	if c.hasUsers() {
		var err error
		if a.users, err = tokens.Load(c.tokensFile); err != nil {
			return nil, cliutil.Usagef("--tokens-file: %w (partd-server token add makes it)", err)
		}
	}
	if c.tlsCert == "" {
		return a, nil
	}
	var err error
	a.certificates, err = certfiles.Load(certfiles.Options{
		Cert: c.tlsCert, Key: c.tlsKey, ClientCA: c.clientCA, NeedClient: c.tokensFile == "", MinVersion: tls.VersionTLS13, Log: log,
	})
	if err != nil {
		return nil, cliutil.Usagef("%w", err)
	}
	return a, nil
}

// reload reads users and certificates again. A file that cannot be used leaves
// what was read before.
func (a *access) reload(log *slog.Logger) {
	if a.users == nil && a.certificates == nil {
		log.Info("SIGHUP: there is nothing to reload, and the server goes on. SIGTERM ends it")
		return
	}
	if a.users != nil {
		if err := a.users.Reload(); err != nil {
			log.Error("cannot reload the users: the old ones stay in use", "error", err)
		} else {
			log.Info("users reloaded")
		}
	}
	if a.certificates != nil {
		a.certificates.Reload()
	}
}

// onHangup calls a function at SIGHUP, which would end the process otherwise, with
// what a buffer holds.
func onHangup(reload func()) (stop func()) {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	go func() {
		for range hangups {
			reload()
		}
	}()
	return func() {
		signal.Stop(hangups)
		close(hangups)
	}
}
