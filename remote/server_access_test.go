package remote

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/server/ratelimit"
	"github.com/go-partd/partd/internal/testutil/hostile"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/internal/testutil/storetest"
)

// users maps each credential (a token, or "cert:" and a common name) to its rights in each namespace.
type users struct {
	mu     sync.Mutex
	rights map[string]map[string]Rights
}

func (u *users) Authenticate(token string, certificate *x509.Certificate) (Identity, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if token == "" && certificate != nil {
		token = "cert:" + certificate.Subject.CommonName
	}
	if u.rights[token] == nil {
		return Identity{}, errors.New("no such token")
	}
	return Identity{User: "user of " + token[:4], Grant: token}, nil
}

func (u *users) Rights(identity Identity, namespace string) Rights {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.rights[identity.Grant][namespace]
}

func clientRequests(c *Client) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"append": func(ctx context.Context) error { return c.Append(ctx, entry("a", "intruder")) },
		"set":    func(ctx context.Context) error { return c.Set(ctx, "a", []byte("intruder")) },
		"iset":   func(ctx context.Context) error { return c.SetOnce(ctx, "new", []byte("intruder")) },
		"delete": func(ctx context.Context) error { return c.Delete(ctx, "a") },
		"drop":   func(ctx context.Context) error { return c.Drop(ctx) },
		"pop":    func(ctx context.Context) error { _, err := c.Pop(ctx, "a"); return err },
		"get":    func(ctx context.Context) error { _, err := c.Get(ctx, "a"); return err },
		"open":   func(ctx context.Context) error { _, err := c.Open(ctx, "a"); return err },
		"keys":   func(ctx context.Context) error { return storetest.ErrorOfFirst(c.Keys(ctx)) },
		"scan":   func(ctx context.Context) error { return storetest.ErrorOfFirst(c.Scan(ctx)) },
		"stat":   func(ctx context.Context) error { _, err := c.Stat(ctx); return err },
		"verify": func(ctx context.Context) error { _, err := c.Check(ctx); return err },
		"flush":  func(ctx context.Context) error { return c.Flush(ctx) },
		"sync":   func(ctx context.Context) error { return c.Sync(ctx) },
	}
}

// allowedWith lists the requests that each right allows.
var allowedWith = map[Rights][]string{
	RightRead:   {"get", "open", "keys", "scan", "stat", "verify"},
	RightAppend: {"append", "iset", "flush", "sync"},
	RightChange: {"set", "delete", "drop", "pop", "flush", "sync"},
}

// TestDeniedRequests sends every kind of request without a credential, with a wrong credential,
// and without the necessary rights, over each transport, in the default namespace and in
// another one. All refusals must have the same answer, change nothing, and be logged without the
// credential.
func TestDeniedRequests(t *testing.T) {
	t.Parallel()
	ca, pair := authority(t, "ours")
	_, foreign := authority(t, "another")
	reader := must.Get(ca.Issue("reader", time.Hour))(t)
	unknownUser := must.Get(ca.Issue("nobody", time.Hour))(t)
	expired := must.Get(ca.Issue("gone", -time.Hour))(t)
	userTable := &users{rights: map[string]map[string]Rights{
		"cert:reader": {"": RightRead}, "cert:gone": {"": AllRights},
		"tokenOfElsewhere": {"other": AllRights}, "tokenOfAdmin": {"": RightAdmin, "job": RightAdmin},
		"r-token": {"": RightRead, "job": RightRead}, "a-token": {"": RightAppend, "job": RightAppend}, "c-token": {"": RightChange, "job": RightChange},
		"owner": {"": AllRights}, "ownerOfJob": {"job": AllRights},
	}}
	log := &procs.Output{}
	spaces := &memSpaces{}
	defaultStore := partd.NewDict()
	jobStore, _ := spaces.Acquire("job")
	s := must.Get(NewServer(defaultStore, &ServerOptions{Authorizer: userTable, Namespaces: spaces, Logger: slog.New(slog.NewTextHandler(log, nil))}))(t)
	t.Cleanup(func() { must.Do(t, s.Shutdown(ctx)) })
	dir, err := os.MkdirTemp("", "partd") // short: the length of a socket's path is limited
	must.Do(t, err)
	t.Cleanup(func() { must.Do(t, os.RemoveAll(dir)) })
	urls := map[string]string{}
	for _, scheme := range []string{"tcp", "tls", "ipc"} {
		var l net.Listener
		switch scheme {
		case "tls":
			l, err = ListenTLS("tls://127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair.TLS}, ClientCAs: ca.Pool, ClientAuth: tls.VerifyClientCertIfGiven})
		case "tcp":
			l, err = Listen("tcp://127.0.0.1:0")
		default:
			l, err = Listen("ipc://" + filepath.Join(dir, "s"))
		}
		must.Do(t, err)
		go s.Serve(ctx, l)
		urls[scheme] = URL(l.Addr())
	}
	var namespace string
	var store partd.Partd
	options := func(scheme, token string, certs ...tls.Certificate) *ClientOptions {
		o := &ClientOptions{Token: token, Namespace: namespace}
		if scheme == "tls" {
			o.TLS = &tls.Config{RootCAs: ca.Pool, Certificates: certs}
		}
		return o
	}
	resetStore := func() {
		must.Do(t, store.Drop(ctx))
		must.Do(t, store.Append(ctx, entry("a", "secret")))
	}
	expectUnchanged := func(peer string) {
		t.Helper()
		if values := must.Get(store.Get(ctx, "a", "new"))(t); string(values[0]) != "secret" || len(values[1]) != 0 {
			t.Errorf("%s changed the store to %q", peer, values)
		}
	}
	intrude := func(scheme, url string) {
		var answers []string
		expectRefused := func(peer string, o *ClientOptions) {
			t.Helper()
			c, err := Dial(ctx, url, o)
			if err == nil {
				_ = c.Close()
			}
			if !errors.Is(err, fs.ErrPermission) {
				t.Errorf("Dial with %s over %s = %v, want ErrPermission", peer, scheme, err)
				return
			}
			answers = append(answers, err.Error())
		}
		expectRefused("no credential", options(scheme, ""))
		expectRefused("a wrong token", options(scheme, "wrong-token"))
		expectRefused("a token of another namespace", options(scheme, "tokenOfElsewhere"))
		o := options(scheme, map[string]string{"": "owner", "job": "ownerOfJob"}[namespace])
		o.Namespace = "hidden"
		expectRefused("a namespace without rights", o)
		if namespace != "" {
			expectRefused("the token of another namespace's owner", options(scheme, "owner"))
		}
		if scheme == "tls" {
			expectRefused("a certificate of an unknown user", options(scheme, "", unknownUser.TLS))
			for name, bad := range map[string]tls.Certificate{"foreign": foreign.TLS, "expired": expired.TLS} {
				if _, err := Dial(ctx, url, options(scheme, "", bad)); err == nil {
					t.Errorf("Dial with a certificate that is %s succeeded", name)
				}
			}
			userTable.mu.Lock()
			userTable.rights["cert:reader"] = map[string]Rights{namespace: RightRead}
			userTable.mu.Unlock()
			c := dial(t, url, options(scheme, "", reader.TLS))
			if _, err := c.Get(ctx, "a"); err != nil {
				t.Errorf("Get with a certificate that allows reading = %v, want nil", err)
			}
			if err := c.Append(ctx, entry("a", "x")); !errors.Is(err, fs.ErrPermission) {
				t.Errorf("Append with a certificate that only allows reading = %v, want ErrPermission", err)
			}
		}
		for _, a := range answers {
			if a != answers[0] {
				t.Errorf("over %s, refusals have different answers: %q and %q", scheme, answers[0], a)
			}
		}
		expectUnchanged("a refused client")
		for token, rights := range map[string]Rights{"r-token": RightRead, "a-token": RightAppend, "c-token": RightChange, "tokenOfAdmin": RightAdmin} {
			c := dial(t, url, options(scheme, token))
			for name, try := range clientRequests(c) {
				allowed := false
				for _, a := range allowedWith[rights] {
					allowed = allowed || a == name
				}
				resetStore()
				err := try(ctx)
				if denied := errors.Is(err, fs.ErrPermission); denied == allowed {
					t.Errorf("over %s in namespace %q with the right %s: %s = %v, want ErrPermission: %t", scheme, namespace, rights, name, err, !allowed)
				} else if denied {
					expectUnchanged("a refused " + name + " with the right " + rights.String())
				}
			}
		}
	}
	for scheme, url := range urls {
		namespace, store = "job", jobStore
		resetStore()
		intrude(scheme, url)
		namespace, store = "", defaultStore
		resetStore()
		intrude(scheme, url)
		resetStore()
		network, address := "tcp", url[len("tcp://"):]
		if scheme == "ipc" {
			network = "unix"
		}
		if scheme == "tls" {
			continue
		}
		for _, command := range [][]string{{"append", "a", "x"}, {"iset", "new", "x"}, {"delete", "a"}, {"drop"}, {"close"}} {
			p := must.Get(hostile.Open(ctx, network, address, 10*time.Second))(t)
			must.Do(t, p.Send(command...))
			if got, err := p.Receive(); err != nil || !strings.HasPrefix(got[0], "error 11: ") {
				t.Errorf("Python's %s over %s: got the answer %q, %v, want an error frame", command[0], scheme, got, err)
			}
			_ = p.Close()
		}
		p := must.Get(hostile.Open(ctx, network, address, 10*time.Second))(t)
		must.Do(t, p.Send("get", "a"))
		if got, err := p.Receive(); err == nil {
			t.Errorf("Python's get over %s: got the answer %q, want a closed connection", scheme, got)
		}
		_ = p.Close()
		expectUnchanged("Python's client")
	}
	text := log.String()
	if strings.Count(text, "refused") < 20 || !strings.Contains(text, "no such token") {
		t.Errorf("the log does not contain 20 refusals and the reason \"no such token\": %s", text)
	}
	for _, secret := range []string{"wrong-token", "tokenOfElsewhere", "r-token", "secret"} {
		if strings.Contains(text, secret) {
			t.Errorf("the log contains %q", secret)
		}
	}
}

// TestRevokedRights checks that a connected user loses a revoked right at once, and that another
// user cannot use the first user's session even with its token. A refused request and a refused client are logged with
// one line each.
func TestRevokedRights(t *testing.T) {
	t.Parallel()
	u := &users{rights: map[string]map[string]Rights{"first": {"": AllRights}, "second": {"": AllRights}}}
	log := &procs.Output{}
	s, url := serve(t, partd.NewDict(), &ServerOptions{Authorizer: u, Logger: slog.New(slog.NewTextHandler(log, nil))})
	first, second := dial(t, url, &ClientOptions{Token: "first"}), dial(t, url, &ClientOptions{Token: "second"})
	reconnected := dial(t, url, &ClientOptions{Token: "first"})
	session := must.Get(first.NewSession(ctx))(t)
	token := must.Get(first.SessionToken(ctx, session))(t)
	if err := second.CheckSession(ctx, session, token); !errors.Is(err, partd.ErrSessionExpired) {
		t.Errorf("CheckSession of another user's session = %v, want ErrSessionExpired", err)
	}
	must.Do(t, reconnected.CheckSession(ctx, session, token))
	u.mu.Lock()
	u.rights["first"] = map[string]Rights{"": RightRead}
	u.mu.Unlock()
	must.Fail(t, first.Append(ctx, entry("k", "v")), fs.ErrPermission, "Append without the revoked right")
	must.Fail(t, must.Err(Dial(ctx, url, &ClientOptions{Token: "wrong"})), fs.ErrPermission, "Dial with a wrong token")
	must.Eventually(t, time.Minute, "the refused client's connection is still open", func() bool { return s.connCount() == 3 })
	if n := strings.Count(log.String(), "\n"); n != 3 || strings.Count(log.String(), "msg=refused") != 2 {
		t.Errorf("the log has %d lines for a wrong session and 2 refusals, want 3:\n%s", n, log)
	}
}

// TestTokenOverTCP checks that a token is sent only to this machine, unless InsecureToken is set.
func TestTokenOverTCP(t *testing.T) {
	c := must.Get(newClient("tcp://127.0.0.1:1", &ClientOptions{Token: "t"}))(t)
	for address, exposed := range map[string]bool{"127.0.0.1:1": false, "[::1]:1": false, "10.0.0.1:1": true, "[2001:db8::1]:1": true, "0.0.0.0:1": true} {
		a := must.Get(net.ResolveTCPAddr("tcp", address))(t)
		if IsExposed(a) != exposed {
			t.Errorf("IsExposed(%s) = %v, want %v", address, !exposed, exposed)
		}
		if err := c.checkTokenExposure(a); (err != nil) != exposed {
			t.Errorf("checkTokenExposure(%s) = %v, want an error: %v", address, err, exposed)
		}
	}
	c.opts.InsecureToken = true
	must.Do(t, c.checkTokenExposure(&net.TCPAddr{IP: net.IPv4(10, 0, 0, 1)}))
}

// TestTrustedSocket checks that a trusted listener serves clients without credentials.
func TestTrustedSocket(t *testing.T) {
	t.Parallel()
	s := must.Get(NewServer(partd.NewDict(), &ServerOptions{Authorizer: &users{}}))(t)
	t.Cleanup(func() { must.Do(t, s.Shutdown(ctx)) })
	l := must.Get(Listen("tcp://127.0.0.1:0"))(t)
	go s.ServeWith(ctx, l, &ServeOptions{Trusted: true})
	p := must.Get(hostile.Open(ctx, "tcp", l.Addr().String(), 10*time.Second))(t)
	defer p.Close()
	must.Do(t, p.Ask([]string{"ack"}, "append", "k", "v"))
	must.Do(t, p.Ask([]string{"v"}, "get", "k"))
	must.Do(t, p.Ask([]string{"ack"}, "syn")) // the second answer to get, and the one to syn
	c := dial(t, URL(l.Addr()), nil)
	must.Do(t, c.Append(ctx, entry("k", "w")))
	if _, err := Dial(ctx, URL(l.Addr()), &ClientOptions{Token: "wrong"}); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("Dial with a wrong token to a trusted listener = %v, want ErrPermission", err)
	}
}

// TestNamespaceAdminCannotStopServer checks that only administrators of the default namespace can stop the server.
func TestNamespaceAdminCannotStopServer(t *testing.T) {
	t.Parallel()
	u := &users{rights: map[string]map[string]Rights{"jobAdmin": {"job7": AllRights}, "default": {"job7": AllRights, "": RightAdmin}}}
	s, url := serve(t, partd.NewDict(), &ServerOptions{Namespaces: &memSpaces{}, Authorizer: u})
	for _, token := range []string{"jobAdmin", "default"} {
		c := dial(t, url+"/job7", &ClientOptions{Token: token})
		must.Get(c.link.write([][]byte{message("close")}))(t)
		_, _ = c.Get(ctx, "k") // the answer to close ends the connection
		select {
		case <-s.CloseRequested():
			if token == "jobAdmin" {
				t.Fatal("an administrator of another namespace can stop the server")
			}
		case <-time.After(100 * time.Millisecond):
			if token == "default" {
				t.Error("an administrator of the default namespace cannot stop the server")
			}
		}
	}
}

// TestGuessesFromSameAddress checks that clients from an address with very many wrong guesses are
// still admitted if they were admitted before or have a certificate.
func TestGuessesFromSameAddress(t *testing.T) {
	t.Parallel()
	ca, pair := authority(t, "ours")
	reader := must.Get(ca.Issue("reader", time.Hour))(t)
	u := &users{rights: map[string]map[string]Rights{"good": {"": AllRights}, "cert:reader": {"": AllRights}}}
	s, url := serve(t, partd.NewDict(), &ServerOptions{Authorizer: u})
	l := must.Get(ListenTLS("tls://127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair.TLS}, ClientCAs: ca.Pool, ClientAuth: tls.VerifyClientCertIfGiven}))(t)
	go s.Serve(ctx, l)
	must.Do(t, dial(t, url, &ClientOptions{Token: "good"}).Close())
	for range 10 * ratelimit.Burst {
		s.logins.RecordFailure("127.0.0.1")
	}
	must.Fail(t, must.Err(Dial(ctx, url, &ClientOptions{Token: "evil"})), ErrBusy, "Dial with another wrong guess")
	must.Do(t, dial(t, url, &ClientOptions{Token: "good"}).Close())
	must.Do(t, dial(t, URL(l.Addr()), &ClientOptions{TLS: &tls.Config{RootCAs: ca.Pool, Certificates: []tls.Certificate{reader.TLS}}}).Close())
}
