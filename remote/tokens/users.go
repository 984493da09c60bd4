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

// Users holds the users of a server, from a file or a map.
type Users struct {
	file     string // "" if the users are not from a file
	allowAll bool   // every user with a certificate has all rights
	grants   atomic.Pointer[lookup]
}

// lookup holds all grants, as a list and by user or token.
type lookup struct {
	grants  []Grant
	byUser  map[string][]Grant // grants for certificates, by user
	byToken map[string]Grant   // grants for tokens, by the token's hash
}

var _ remote.Authorizer = (*Users)(nil)

// Load reads the users from a file. If file is "", every user with a certificate has all rights.
func Load(file string) (*Users, error) {
	u := &Users{file: file, allowAll: file == ""}
	u.replace(nil)
	return u, u.Reload()
}

// minToken is the minimum length of a token in a map, in bytes. Shorter tokens could be guessed.
const minToken = 16

// New returns the users in byToken, which maps each token to a grant. Each token must have at least
// 16 bytes that nobody can guess:
//
//	tokens.New(map[string]tokens.Grant{
//		os.Getenv("ETL_TOKEN"): {User: "etl", Namespace: tokens.AllNamespaces, Rights: remote.RightRead | remote.RightAppend},
//	})
func New(byToken map[string]Grant) (*Users, error) {
	var all []Grant
	for token, g := range byToken {
		g.byCert = false
		if err := g.check(); err != nil {
			return nil, err
		}
		if g.Rights == 0 || g.Rights&^remote.AllRights != 0 {
			return nil, fmt.Errorf("user %s: rights %d: use one or more of remote.RightRead, RightAppend, RightChange and RightAdmin", g.User, g.Rights)
		}
		if len(token) < minToken || len(token) > maxToken {
			return nil, fmt.Errorf("user %s: the token has %d bytes: use %d to %d random characters", g.User, len(token), minToken, maxToken)
		}
		_, _ = rand.Read(g.salt[:]) // rand.Read never fails
		g.hash = hashOf(g.salt, token)
		all = append(all, g)
	}
	u := &Users{}
	u.replace(all)
	return u, nil
}

// Reload reads the file again. If the users are not from a file, it does nothing. If reading fails,
// the previous users remain.
func (u *Users) Reload() error {
	if u.file == "" {
		return nil
	}
	grants, err := Read(u.file)
	if err != nil {
		return err
	}
	u.replace(grants)
	return nil
}

func (u *Users) current() *lookup {
	if k := u.grants.Load(); k != nil {
		return k
	}
	return new(lookup)
}

func (u *Users) replace(grants []Grant) {
	k := &lookup{grants, map[string][]Grant{}, map[string]Grant{}}
	for _, g := range grants {
		if g.byCert {
			k.byUser[g.User] = append(k.byUser[g.User], g)
		} else {
			k.byToken[string(g.hash[:])] = g
		}
	}
	u.grants.Store(k)
}

// Authenticate implements [remote.Authorizer]. It always compares token with the tokens of all users,
// so that the running time does not reveal a match.
func (u *Users) Authenticate(token string, certificate *x509.Certificate) (user remote.Identity, err error) {
	if token == "" {
		return u.byCertificate(certificate)
	}
	if len(token) > maxToken {
		return user, errors.New("not a token: too long")
	}
	for _, g := range u.current().grants {
		got := hashOf(g.salt, token)
		if same := subtle.ConstantTimeCompare(got[:], g.hash[:]); same == 1 && !g.byCert {
			user = remote.Identity{User: g.User, Grant: string(g.hash[:])}
		}
	}
	if user.User == "" {
		return user, errors.New("the token is wrong")
	}
	return user, nil
}

// byCertificate returns the user named by the certificate's common name. The caller must have
// verified the certificate.
func (u *Users) byCertificate(certificate *x509.Certificate) (remote.Identity, error) {
	if certificate == nil {
		return remote.Identity{}, errors.New("no credential")
	}
	name := certificate.Subject.CommonName
	if !userPattern.MatchString(name) {
		return remote.Identity{}, fmt.Errorf("the certificate's common name, %.80q, is not a user name", name)
	}
	return remote.Identity{User: name}, nil
}

// Rights implements [remote.Authorizer].
func (u *Users) Rights(identity remote.Identity, namespace string) (r remote.Rights) {
	if u.allowAll && identity.User != "" && identity.Grant == "" {
		return remote.AllRights
	}
	k := u.current()
	grants := k.byUser[identity.User]
	if identity.Grant != "" {
		grants = []Grant{k.byToken[identity.Grant]}
	}
	for _, g := range grants {
		covers := g.Namespace == AllNamespaces || g.Namespace == namespace || g.Namespace == DefaultNamespace && namespace == ""
		if g.User == identity.User && covers {
			r |= g.Rights
		}
	}
	return r
}
