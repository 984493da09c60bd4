package tokens

import (
	"crypto/rand"
	"crypto/subtle"
	"crypto/x509"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/go-partd/partd/remote"
)

// Users holds the users of a server, from a file or a map. A file can be reloaded
// while the server runs.
type Users struct {
	file   string // "" of a map
	anyone bool   // who has a certificate may do everything
	grants atomic.Pointer[known]
}

// known is what a file says, by what an identity names.
type known struct {
	all     []Grant
	byUser  map[string][]Grant // whom a certificate shows
	byToken map[string]Grant
}

var _ remote.Authorizer = (*Users)(nil)

// Load reads the users from a file. If file is "", everybody who has a certificate may do
// everything.
func Load(file string) (*Users, error) {
	u := &Users{file: file, anyone: file == ""}
	u.know(nil)
	return u, u.Reload()
}

// minToken is how long a token of a map must be, in bytes. Its hash is a fast one, and
// keeps no short one from being found.
const minToken = 16

// New returns users from a map by token. Each token has at least 16 bytes that
// nobody can guess:
//
//	tokens.New(map[string]tokens.Grant{
//		os.Getenv("ETL_TOKEN"): {User: "etl", Namespace: tokens.Everywhere, Rights: remote.RightRead | remote.RightAppend},
//	})
func New(byToken map[string]Grant) (*Users, error) {
	var all []Grant
	for token, g := range byToken {
		g.byCert = false
		if err := g.check(); err != nil {
			return nil, err
		}
		if g.Rights == 0 || g.Rights&^remote.AllRights != 0 {
			return nil, fmt.Errorf("user %s: rights %d: give at least one of remote.RightRead, RightAppend, RightChange and RightAdmin", g.User, g.Rights)
		}
		if len(token) < minToken || len(token) > maxToken {
			return nil, fmt.Errorf("user %s: a token of %d bytes: give one of %d to %d, of random characters", g.User, len(token), minToken, maxToken)
		}
		_, _ = rand.Read(g.salt[:]) // it never fails
		g.hash = hashOf(g.salt, token)
		all = append(all, g)
	}
	u := &Users{}
	u.know(all)
	return u, nil
}

// Reload reads the file again. If that fails, the old users remain. Users from a map
// never change.
func (u *Users) Reload() error {
	if u.file == "" {
		return nil
	}
	grants, err := Read(u.file)
	if err == nil {
		u.know(grants)
	}
	return err
}

// known returns the users; a zero Users has none.
func (u *Users) known() *known {
	if k := u.grants.Load(); k != nil {
		return k
	}
	return new(known)
}

// know replaces the users.
func (u *Users) know(grants []Grant) {
	k := &known{grants, map[string][]Grant{}, map[string]Grant{}}
	for _, g := range grants {
		if g.byCert {
			k.byUser[g.User] = append(k.byUser[g.User], g)
		} else {
			k.byToken[string(g.hash[:])] = g
		}
	}
	u.grants.Store(k)
}

// Authenticate implements [remote.Authorizer]. It compares a token with all
// known ones, so that its running time does not reveal which one matches, if
// any.
func (u *Users) Authenticate(token string, certificate *x509.Certificate) (who remote.Identity, err error) {
	if token == "" {
		return u.byCertificate(certificate)
	}
	if len(token) > maxToken {
		return who, errors.New("not a token: too long")
	}
	for _, g := range u.known().all {
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
		return remote.Identity{}, fmt.Errorf("a certificate whose common name, %.80q, is no user name", name)
	}
	return remote.Identity{User: name}, nil
}

// Rights implements [remote.Authorizer].
func (u *Users) Rights(who remote.Identity, namespace string) (r remote.Rights) {
	if u.anyone && who.User != "" && who.Grant == "" {
		return remote.AllRights
	}
	k := u.known()
	grants := k.byUser[who.User]
	if who.Grant != "" {
		grants = []Grant{k.byToken[who.Grant]}
	}
	for _, g := range grants {
		covers := g.Namespace == Everywhere || g.Namespace == namespace || g.Namespace == Default && namespace == ""
		if g.User == who.User && covers {
			r |= g.Rights
		}
	}
	return r
}
