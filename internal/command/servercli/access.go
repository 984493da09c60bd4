package servercli

import (
	"crypto/tls"
	"log/slog"

	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/internal/server/audit"
	"github.com/go-partd/partd/internal/server/certfiles"
	"github.com/go-partd/partd/remote/tokens"
)

// access holds the users, the certificates and the audit log. SIGHUP makes the server reload or reopen them.
type access struct {
	users        *tokens.Users           // nil if there are no users
	certificates *certfiles.Certificates // nil without TLS
	audit        *audit.Log              // nil without --audit-log
}

func readAccess(c *config, log *slog.Logger) (*access, error) {
	a := &access{}
	if c.hasUsers() {
		var err error
		a.users, err = tokens.Load(c.tokensFile)
		if err != nil {
			return nil, cliutil.Usagef("--tokens-file: %w (create it with partd-server token add)", err)
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

// reload reloads users and certificates and reopens the audit log. An invalid file is not applied: its previous
// contents stay in use.
func (a *access) reload(log *slog.Logger) {
	if a.users == nil && a.certificates == nil && a.audit == nil {
		log.Info("SIGHUP: nothing to reload; send SIGTERM to stop the server")
		return
	}
	if a.users != nil {
		if err := a.users.Reload(); err != nil {
			log.Error("cannot reload the users: the previous ones stay in use", "error", err)
		} else {
			log.Info("users reloaded")
		}
	}
	if a.certificates != nil {
		a.certificates.Reload()
	}
	if a.audit != nil {
		a.audit.Reopen()
	}
}
