package tokens

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/remote"
)

func add(t *testing.T, file, user, namespace string, rights remote.Rights, byCert bool) (token string) {
	t.Helper()
	g, token, err := NewGrant(user, namespace, rights, byCert)
	must.Do(t, err)
	must.Do(t, Edit(file, func(all []Grant) ([]Grant, error) { return append(all, g), nil }))
	return token
}

func TestUsers(t *testing.T) {
	file := filepath.Join(t.TempDir(), "users")
	allToken := add(t, file, "ann", AllNamespaces, remote.RightRead, false)
	jobToken := add(t, file, "ann", "job7", remote.RightAppend, false)
	defaultToken := add(t, file, "bob", DefaultNamespace, remote.AllRights, false)
	add(t, file, "cert", "job7", remote.RightChange, true)
	u := must.Get(Load(file))(t)
	text := must.Get(os.ReadFile(file))(t)
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file's mode is %v, %v, want 0600", info.Mode(), err)
	}
	for _, c := range []struct {
		token, cert, user, namespace string
		want                         remote.Rights
	}{
		{allToken, "", "ann", "", remote.RightRead},
		{allToken, "", "ann", "job7", remote.RightRead},
		{jobToken, "", "ann", "", 0},
		{jobToken, "", "ann", "job7", remote.RightAppend},
		{defaultToken, "", "bob", "", remote.AllRights},
		{defaultToken, "", "bob", "job7", 0},
		{"", "cert", "cert", "job7", remote.RightChange},
		{"", "cert", "cert", "", 0},
		{"", "ann", "ann", "", 0},
		{"", "", "", "", 0},
		{allToken[:len(allToken)-1], "cert", "", "job7", 0},
		{"", "two words", "", "job7", 0},
	} {
		var certificate *x509.Certificate
		if c.cert != "" {
			certificate = &x509.Certificate{Subject: pkix.Name{CommonName: c.cert}}
		}
		identity, err := u.Authenticate(c.token, certificate)
		if identity.User != c.user || (err == nil) != (c.user != "") || u.Rights(identity, c.namespace) != c.want {
			t.Errorf("case %+v: Authenticate returned user %q with rights %v, error %v", c, identity.User, u.Rights(identity, c.namespace), err)
		}
		if c.token != "" && strings.Contains(string(text), c.token) {
			t.Error("the file contains a token")
		}
	}
	identity := must.Get(u.Authenticate(defaultToken, nil))(t)
	must.Do(t, os.WriteFile(file, []byte(fileHeader+"bob . read\n"), 0o600))
	if err := u.Reload(); err == nil || u.Rights(identity, "") != remote.AllRights {
		t.Errorf("Reload of a damaged file = %v, and the user has the rights %v, want an error and all rights", err, u.Rights(identity, ""))
	}
	must.Do(t, os.WriteFile(file, nil, 0o600))
	if err := u.Reload(); err != nil || u.Rights(identity, "") != 0 {
		t.Errorf("Reload after the token was removed = %v, and the user has the rights %v, want none", err, u.Rights(identity, ""))
	}
}

func TestDamagedFiles(t *testing.T) {
	file := filepath.Join(t.TempDir(), "users")
	g, secret, err := NewGrant("ann", AllNamespaces, remote.RightRead, false)
	must.Do(t, err)
	good := g.String()
	for _, c := range []struct{ text, want string }{
		{good + "\n\n# a comment\n" + good[:len(good)-1] + "\n", "line 4: field 5"},
		{good + " more\n", "line 1: 6 fields"},
		{strings.Replace(good, "read", "rule", 1), "line 1: field 3"},
		{strings.Replace(good, "ann", "a/b", 1), "line 1: field 1"},
		{strings.Replace(good, "ann", secret, 1), "line 1: field 1"},
		{strings.Replace(good, "read", secret, 1), "line 1: field 3"},
		{strings.Replace(good, "*", "..", 1), "line 1: field 2"},
		{strings.Replace(good, "*", secret, 1), "line 1: field 2"},
		{strings.Repeat("x", 1<<20), "line 1"},
		{"# Users\r" + good, "line 1: a control character"},
		{good + "\n\xef\xbb\xbf" + good, "line 2: field 1"},
		{good + "\n" + strings.ReplaceAll(good, "", "\x00"), "line 2: a control character"},
	} {
		must.Do(t, os.WriteFile(file, []byte(c.text), 0o600))
		if _, err := Read(file); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), file) || strings.Contains(err.Error(), secret) {
			t.Errorf("Read of %.60q = %v, want an error with %q", c.text, err, c.want)
		}
		if err := Edit(file, func(all []Grant) ([]Grant, error) { return all, nil }); err == nil {
			t.Errorf("Edit of %.60q succeeded", c.text)
		}
	}
	must.Do(t, os.Chmod(file, 0o622))
	must.Fail(t, must.Err(Read(file)), "chmod", "Read of a file that others may write")
}

// TestConcurrentEdits checks that concurrent edits lose nothing, and that a failed edit changes nothing.
func TestConcurrentEdits(t *testing.T) {
	file := filepath.Join(t.TempDir(), "users")
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() { add(t, file, fmt.Sprint("user", i), AllNamespaces, remote.RightRead, false) })
	}
	wg.Wait()
	changeErr := errors.New("the change failed")
	must.Fail(t, Edit(file, func([]Grant) ([]Grant, error) { return nil, changeErr }), changeErr, "Edit")
	if all, err := Read(file); err != nil || len(all) != 20 {
		t.Errorf("Read returned %d users, %v, want 20", len(all), err)
	}
	if temporary, _ := filepath.Glob(filepath.Join(filepath.Dir(file), ".tokens-*")); len(temporary) > 0 {
		t.Errorf("Edit left temporary files: %q", temporary)
	}
}

// TestLongTokens checks that long input is refused before it is hashed for each user, which would take seconds.
func TestLongTokens(t *testing.T) {
	file := filepath.Join(t.TempDir(), "users")
	add(t, file, "ann", AllNamespaces, remote.RightRead, false)
	u := must.Get(Load(file))(t)
	k := u.grants.Load()
	for len(k.grants) < 20_000 {
		k.grants = append(k.grants, k.grants[0])
	}
	begin := time.Now()
	if _, err := u.Authenticate(strings.Repeat("x", 100<<10), nil); err == nil || time.Since(begin) > 500*time.Millisecond {
		t.Errorf("Authenticate with a token of 100 KiB = %v after %v, want an error within 500 ms", err, time.Since(begin))
	}
}

// TestLinkedFile checks that an edit through a link changes the target and keeps the link.
func TestLinkedFile(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(dir, "link")
	add(t, filepath.Join(dir, "users"), "ann", AllNamespaces, remote.RightRead, false)
	if err := os.Symlink("users", link); err != nil {
		t.Skip(err)
	}
	add(t, link, "bob", AllNamespaces, remote.RightRead, false)
	all, err := Read(filepath.Join(dir, "users"))
	if err != nil || len(all) != 2 {
		t.Errorf("the target of the link has %d users, %v, want 2", len(all), err)
	}
}

// TestMap checks that users from a map are admitted with their tokens, but not with certificates.
func TestMap(t *testing.T) {
	const etl, report = "0123456789abcdef", "a token of the reports"
	u := must.Get(New(map[string]Grant{
		etl:    {User: "etl", Namespace: AllNamespaces, Rights: remote.RightRead | remote.RightAppend},
		report: {User: "report", Namespace: "job7", Rights: remote.RightRead},
	}))(t)
	must.Do(t, u.Reload())
	for _, c := range []struct {
		token, namespace string
		want             remote.Rights
	}{
		{etl, "", remote.RightRead | remote.RightAppend},
		{report, "job7", remote.RightRead},
		{report, "", 0},
		{"0123456789abcdeF", "", 0},
		{"", "", 0},
	} {
		identity, _ := u.Authenticate(c.token, nil)
		if got := u.Rights(identity, c.namespace); got != c.want {
			t.Errorf("the rights of token %q in namespace %q are %v, want %v", c.token, c.namespace, got, c.want)
		}
	}
	identity, err := u.Authenticate("", &x509.Certificate{Subject: pkix.Name{CommonName: "etl"}})
	if got := u.Rights(identity, ""); err != nil || got != 0 {
		t.Errorf("the rights of a certificate are %v, %v, want none", got, err)
	}
	for label, bad := range map[string]map[string]Grant{
		"a short token":   {etl[1:]: {User: "a", Namespace: AllNamespaces, Rights: remote.RightRead}},
		"a long token":    {strings.Repeat("x", maxToken+1): {User: "a", Namespace: AllNamespaces, Rights: remote.RightRead}},
		"no name":         {etl: {Namespace: AllNamespaces, Rights: remote.RightRead}},
		"no rights":       {etl: {User: "a", Namespace: AllNamespaces}},
		"a bad namespace": {etl: {User: "a", Namespace: "..", Rights: remote.RightRead}},
	} {
		if _, err := New(bad); err == nil || strings.Contains(err.Error(), etl[1:]) {
			t.Errorf("New with %s = %v, want an error without the token", label, err)
		}
	}
}
