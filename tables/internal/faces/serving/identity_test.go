package serving

import (
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/testutil/must"
)

// TestNames checks that tokens with one name are one user for the limits, whichever secret signed them, that tokens
// without a name are separate users, and that only a revoked name is refused.
func TestNames(t *testing.T) {
	secrets := [][]byte{[]byte("the first secret"), []byte("the second secret")}
	s := must.Get(New(nil, &Options{Secret: secrets[0]}))(t)
	verify := func(secret int, name string, ttl time.Duration) (Caller, error) {
		t.Helper()
		token, err := NewToken(secrets[secret], Read, "", ttl)
		if name != "" {
			token, err = NewNamedToken(secrets[secret], name, Read, ttl)
		}
		must.Do(t, err)
		return s.Verify("1.2.3.4:5", token)
	}
	if _, err := verify(1, "ann", time.Hour); err == nil {
		t.Error("Verify accepts a token of a secret that the server does not have")
	}
	must.Do(t, s.SetSecrets(secrets, []string{"bob", "an", ""}))
	callers := map[string]Caller{}
	for _, c := range []struct {
		label, name string
		secret      int
		ttl         time.Duration
	}{{"ann", "ann", 0, time.Hour}, {"ann later", "ann", 1, 2 * time.Hour}, {"one", "", 0, time.Hour}, {"two", "", 0, 2 * time.Hour}} {
		caller, err := verify(c.secret, c.name, c.ttl)
		if err != nil || caller.Name != c.name {
			t.Errorf("Verify(%s) = name %q, error %v, want %q", c.label, caller.Name, err, c.name)
		}
		callers[c.label] = caller
	}
	if callers["ann"].user != callers["ann later"].user {
		t.Error("two tokens with one name are two users, so limits for a user would not hold")
	}
	if callers["one"].user == callers["two"].user || callers["one"].user == callers["ann"].user {
		t.Error("tokens without a name are not separate users")
	}
	must.Fail(t, must.Err(verify(0, "bob", time.Hour)), "revoked", "Verify of a revoked name")
	for _, bad := range [][][]byte{nil, {nil}, {secrets[0], {}}} {
		if err := s.SetSecrets(bad, nil); err == nil {
			t.Errorf("SetSecrets(%q) succeeded, want an error", bad)
		}
	}
	if _, err := verify(0, "ann", time.Hour); err != nil {
		t.Errorf("a refused SetSecrets changed the secrets: %v", err)
	}
	for _, name := range []string{"", "a b", "a\n", "#a", strings.Repeat("a", 65)} {
		if _, err := NewNamedToken(secrets[0], name, Read, time.Hour); err == nil {
			t.Errorf("NewNamedToken accepts the name %q", name)
		}
	}
	open := must.Get(New(nil, nil))(t)
	if err := open.SetSecrets(nil, nil); err != nil {
		t.Errorf("SetSecrets of a server without a secret = %v, want no error", err)
	}
	if err := open.SetSecrets(secrets, nil); err == nil {
		t.Error("SetSecrets gives secrets to a server whose clients need no token")
	}
}
