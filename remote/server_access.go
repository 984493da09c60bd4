package remote

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"
)

// Rights are what a user may do in a namespace.
type Rights uint8

// The rights. None of them includes another.
const (
	RightRead   Rights = 1 << iota // read, list, look at sizes, verify
	RightAppend                    // append and set once
	RightChange                    // set, delete, pop and drop
	RightAdmin                     // list namespaces where it is held; in the default one, end the server
	AllRights   = 1<<iota - 1
)

const dataRights = RightRead | RightAppend | RightChange

var rightNames = []string{"read", "append", "change", "admin"}

func (r Rights) String() string {
	var names []string
	for i, name := range rightNames {
		if r&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, ",")
}

// ParseRights parses a comma-separated list of at least one right.
func ParseRights(s string) (r Rights, err error) {
next:
	for _, word := range strings.Split(s, ",") {
		for i, name := range rightNames {
			if word == name {
				r |= 1 << i
				continue next
			}
		}
		return 0, fmt.Errorf("rights %q: write some of %s, separated by commas", s, strings.Join(rightNames, ","))
	}
	return r, nil
}

// Identity identifies an authenticated client.
type Identity struct {
	User  string // owner of sessions, and name in the log
	Grant string // what the [Authorizer] knows the credential by; no secret
}

// Authorizer knows the users of a server and their rights. Package remote/tokens
// implements one with a file or a map.
type Authorizer interface {
	// Authenticate identifies the bearer of a token, which may be empty, or else
	// of a verified certificate, which may be nil. Its error appears only in the
	// log. Its running time must not depend on how much of a token is right.
	Authenticate(token string, certificate *x509.Certificate) (Identity, error)
	// Rights returns what a user may currently do in a namespace, "" being the
	// default one. The server calls it for each request.
	Rights(who Identity, namespace string) Rights
}

// ServeOptions configures [Server.ServeWith]. Nil and zero values mean the
// defaults.
type ServeOptions struct {
	// Namespace is the namespace that clients of the listener work on. If it is
	// empty, clients choose one, and Python's clients get the default one.
	Namespace string
	// Trusted admits clients without credentials, with every right except admin.
	// Use it if the listener itself decides who may connect, for example by the
	// permissions of a Unix socket.
	Trusted bool
}

// errDenied is the one answer to whatever may not be, so that it tells nothing: not
// whether a user, a token or a namespace exists. The log says why.
var errDenied = fmt.Errorf("no credential, a wrong one, or one without the right to do this here (%w)", fs.ErrPermission)

// access is what a connection may do.
type access struct {
	who     Identity
	entered bool // a credential was found good, or none is needed
	trusted bool // none is needed, and there are users
	bound   bool // the namespace is settled
}

// rights returns what the connection may do at this moment.
func (c *conn) rights() Rights { return c.rightsIn(c.namespace) }

func (c *conn) rightsIn(namespace string) Rights {
	a := c.server.opts.Authorizer
	switch {
	case a == nil:
		return AllRights
	case c.access.entered && !c.access.trusted:
		return a.Rights(c.access.who, namespace)
	case c.listener.Trusted:
		return dataRights
	}
	return 0
}

// may returns an error unless the connection has one of some rights.
func (c *conn) may(needs Rights, what string) error {
	if c.rights()&needs != 0 {
		return nil
	}
	c.server.meters.denied.Add(1)
	c.server.opts.Logger.Warn("refused", "operation", what, "user", c.access.who.User, "namespace", c.namespace,
		"peer", peerName(c.nc), "reason", "without the right "+needs.String())
	return errDenied
}

// authenticate lets a client in that shows a credential, and settles its namespace.
func (c *conn) authenticate(namespace, credential string) error {
	if c.listener.Namespace != "" && namespace == "" {
		namespace = c.listener.Namespace
	}
	var who Identity
	a := c.server.opts.Authorizer
	var certificate *x509.Certificate
	if s, ok := c.nc.(*tls.Conn); ok && len(s.ConnectionState().VerifiedChains) > 0 {
		certificate = s.ConnectionState().PeerCertificates[0]
	}
	trusted := a != nil && c.listener.Trusted && credential == "" && certificate == nil
	switch {
	case a == nil && credential != "":
		return fmt.Errorf("this server has no users, but got a credential: %w", errors.ErrUnsupported)
	case a != nil && !trusted:
		isGuess := credential != "" || certificate == nil
		if isGuess && !c.server.logins.MayTry(c.tenant.name, credential) {
			c.server.meters.wrong.Add(1)
			c.server.opts.Logger.Warn("a credential was not checked: too many wrong ones came from this address", "peer", peerName(c.nc))
			return fmt.Errorf("%w (wrong credentials came from this address)", ErrBusy)
		}
		var err error
		if who, err = a.Authenticate(credential, certificate); err == nil && a.Rights(who, namespace) == 0 {
			err = fmt.Errorf("the user %s has no right in the namespace", who.User)
		}
		if err != nil {
			return c.wrongCredential(namespace, err)
		}
		c.server.logins.Right(credential)
	}
	if c.listener.Namespace != "" && namespace != c.listener.Namespace {
		return c.wrongCredential(namespace, fmt.Errorf("the address is only for the namespace %s", c.listener.Namespace))
	}
	if namespace != "" && c.server.opts.Namespaces == nil {
		return errNoNamespaces(namespace)
	}
	if c.access.bound && (namespace != c.namespace || who != c.access.who) {
		return fmt.Errorf("%w: a connection cannot change its user or namespace: make another one", ErrBadRequest)
	}
	c.access.who, c.access.entered, c.access.trusted = who, true, trusted
	c.reader.SetMaxMessage(c.server.opts.MaxMessage)
	return c.bind(namespace)
}

// guessPause is how long the answer to a wrong credential waits.
const guessPause = 250 * time.Millisecond

func (c *conn) wrongCredential(namespace string, cause error) error {
	c.server.meters.wrong.Add(1)
	c.server.logins.Wrong(c.tenant.name)
	c.server.opts.Logger.Warn("refused", "operation", opHello.String(), "namespace", cut(namespace), "peer", peerName(c.nc), "reason", cause)
	select {
	case <-time.After(guessPause):
	case <-c.ctx.Done():
	}
	return errDenied
}

// bindDefault settles the namespace of who did not name one.
func (c *conn) bindDefault() error {
	if c.access.bound || c.rights() == 0 {
		return nil // who may do nothing hears so
	}
	return c.bind(c.listener.Namespace)
}

// bind settles the namespace of a connection, by its first message at the latest.
func (c *conn) bind(namespace string) error {
	if !c.access.bound {
		p, err := c.server.enterSpace(namespace)
		if err != nil {
			return err
		}
		c.access.bound, c.namespace, c.space, c.handles.space = true, namespace, p, p
	}
	return nil
}
