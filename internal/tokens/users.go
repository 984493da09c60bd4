package tokens

import (
	"crypto/subtle"
	"crypto/x509"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/go-partd/partd/remote"
)

// Users are those of a file, for a server; they can be read again while it runs.
// Without a file everybody who has a certificate may do everything.
type Users struct {
	file   string
	grants atomic.Pointer[known]
}

// known is what a file says, by what an identity names.
type known struct {
	all     []Grant
	byUser  map[string][]Grant // whom a certificate shows
	byToken map[string]Grant
}

var _ remote.Authorizer = (*Users)(nil)

// Load reads the users of a file, "" for none.
func Load(file string) (*Users, error) {
	u := &Users{file: file}
	return u, u.Reload()
}

// Reload reads the file again. Where that fails, the users from before stay.
func (u *Users) Reload() error {
	var grants []Grant
	if u.file != "" {
		var err error
		if grants, err = Read(u.file); err != nil {
			return err
		}
	}
	k := &known{grants, map[string][]Grant{}, map[string]Grant{}}
	for _, g := range grants {
		if g.byCert {
			k.byUser[g.User] = append(k.byUser[g.User], g)
		} else {
			k.byToken[string(g.hash[:])] = g
		}
	}
	u.grants.Store(k)
	return nil
}

// Authenticate implements [remote.Authorizer]. It compares a token with all that
// there are, so that it takes as long whichever is the right one, or none.
func (u *Users) Authenticate(token string, certificate *x509.Certificate) (who remote.Identity, err error) {
	if token == "" {
		return u.byCertificate(certificate)
	}
	if len(token) > maxToken {
		return who, errors.New("no token: it is too long for one")
	}
	for _, g := range u.grants.Load().all {
		got := hashOf(g.salt, token)
		if same := subtle.ConstantTimeCompare(got[:], g.hash[:]); same == 1 && !g.byCert {
			who = remote.Identity{User: g.User, Grant: string(g.hash[:])}
		}
	}
	if who.User == "" {
		return who, errors.New("a wrong token")
	}
	return who, nil
}

// byCertificate finds the user that a certificate names: its subject's common name,
// which an authority of the server's own choice vouches for.
func (u *Users) byCertificate(certificate *x509.Certificate) (remote.Identity, error) {
	if certificate == nil {
		return remote.Identity{}, errors.New("no credential")
	}
	name := certificate.Subject.CommonName
	if !userPattern.MatchString(name) {
		return remote.Identity{}, fmt.Errorf("a certificate whose common name, %.80q, cannot be a user's", name)
	}
	return remote.Identity{User: name}, nil
}

// Rights implements [remote.Authorizer].
func (u *Users) Rights(who remote.Identity, namespace string) (r remote.Rights) {
	if u.file == "" && who.User != "" && who.Grant == "" {
		return remote.AllRights
	}
	k := u.grants.Load()
	grants := k.byUser[who.User]
	if who.Grant != "" {
		grants = []Grant{k.byToken[who.Grant]}
	}
	for _, g := range grants {
		if g.User == who.User && g.covers(namespace) {
			r |= g.Rights
		}
	}
	return r
}
