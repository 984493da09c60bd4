package remote

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
)

type memSpaces struct {
	mu     sync.Mutex
	stores map[string]partd.Partd
	refs   map[string]int // number of uses, by name
	closed bool
}

func (m *memSpaces) Acquire(name string) (partd.Partd, func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.stores == nil {
		m.stores, m.refs = map[string]partd.Partd{}, map[string]int{}
	}
	if m.stores[name] == nil {
		m.stores[name] = partd.NewDict()
	}
	m.refs[name]++
	return m.stores[name], func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.refs[name]--
	}
}

func (m *memSpaces) List(_ context.Context, after string, limit int) (list []NamespaceInfo, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name := range m.stores {
		if name > after {
			list = append(list, NamespaceInfo{Name: name, DiskBytes: int64(len(name))})
		}
	}
	slices.SortFunc(list, func(a, b NamespaceInfo) int { return strings.Compare(a.Name, b.Name) })
	return list[:min(limit, len(list))], nil
}

func (m *memSpaces) SpaceLimit(string) SpaceLimit { return nil }

func (m *memSpaces) WhenFull(func()) {}

func (m *memSpaces) Close(context.Context) error {
	m.closed = true
	return nil
}

// TestNamespaces checks that a change, a Drop, a Pop or a session in one namespace does not affect the others.
func TestNamespaces(t *testing.T) {
	t.Parallel()
	spaces := &memSpaces{}
	s, url := serve(t, partd.NewDict(), &ServerOptions{Namespaces: spaces})
	base, a, b := dial(t, url, nil), dial(t, url+"/a", nil), dial(t, url, &ClientOptions{Namespace: "b"})
	for i, c := range []*Client{base, a, b} {
		must.Do(t, c.Append(ctx, entry("k", strings.Repeat(fmt.Sprint(i), i+1))))
	}
	must.Do(t, b.Drop(ctx))
	must.Do(t, b.Append(ctx, entry("k", "again")))
	for i, c := range []*Client{base, a, b} {
		values := must.Get(c.Get(ctx, "k"))(t)
		if string(values[0]) != []string{"0", "11", "again"}[i] {
			t.Errorf("Get by client %d = %q, want %q", i, values[0], []string{"0", "11", "again"}[i])
		}
		if st, err := c.Stat(ctx); err != nil || st.Bytes != int64(len(values[0])) {
			t.Errorf("Stat by client %d = %+v, %v, want %d bytes", i, st, err, len(values[0]))
		}
	}
	session := must.Get(a.NewSession(ctx))(t)
	token := must.Get(a.SessionToken(ctx, session))(t)
	must.Fail(t, b.CheckSession(ctx, session, token), partd.ErrSessionExpired, "CheckSession in another namespace")
	if values := must.Get(a.Pop(ctx, "k"))(t); string(values[0]) != "11" {
		t.Errorf("Pop = %q, want 11", values[0])
	}
	for _, bad := range []string{"/", "/..", "/a/b", "/" + strings.Repeat("x", 65)} {
		if _, err := Dial(ctx, url+bad, nil); err == nil {
			t.Errorf("Dial with the invalid namespace %q succeeded", bad)
		}
	}
	if list := must.Get(base.Namespaces(ctx))(t); len(list) != 2 || list[0].Name != "a" || list[1].DiskBytes != 1 {
		t.Errorf("Namespaces = %+v, want a and b", list)
	}
	_, plain := serve(t, partd.NewDict(), nil)
	if _, err := Dial(ctx, plain+"/a", nil); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("Dial with a namespace to a server without namespaces = %v, want ErrUnsupported", err)
	}
	must.Do(t, a.Close())
	must.Do(t, b.Close())
	for range 200 {
		s.spaces.mu.Lock()
		n := len(s.spaces.named)
		s.spaces.mu.Unlock()
		if n == 0 {
			break
		}
		reconnected := dial(t, url+"/c", nil)
		must.Do(t, reconnected.Close())
	}
	must.Do(t, s.Shutdown(ctx))
	for name, n := range spaces.refs {
		if n != 0 && name != "c" || !spaces.closed {
			t.Errorf("after Shutdown, the namespace %s has %d uses, and closed is %t, want no uses and true", name, n, spaces.closed)
		}
	}
}

// TestManyNamespacesListed checks that a long listing contains only namespaces in which the user
// has the admin right. Not even the cursor of a listing may reveal other namespaces.
func TestManyNamespacesListed(t *testing.T) {
	t.Parallel()
	spaces := &memSpaces{}
	rights := map[string]Rights{"": AllRights}
	for i := range 3 * listPageSize {
		name := fmt.Sprintf("n%04d", i)
		spaces.Acquire(name)
		if i%3 == 0 {
			rights[name] = RightAdmin
		}
	}
	u := &users{rights: map[string]map[string]Rights{"admin": rights, "other": {"": dataRights}, "owner": {"n0003": AllRights}}}
	_, url := serve(t, partd.NewDict(), &ServerOptions{Namespaces: spaces, Authorizer: u})
	if list := must.Get(dial(t, url, &ClientOptions{Token: "admin"}).Namespaces(ctx))(t); len(list) != listPageSize || list[1].Name != "n0003" {
		t.Errorf("Namespaces returned %d namespaces, want every third of %d", len(list), 3*listPageSize)
	}
	if _, err := dial(t, url, &ClientOptions{Token: "other"}).Namespaces(ctx); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("Namespaces without the admin right = %v, want ErrPermission", err)
	}
	req := newCall(opNamespaces)
	req.buf = appendText(req.buf, "")
	must.Do(t, dial(t, url+"/n0003", &ClientOptions{Token: "owner"}).do(ctx, req))
	if others := strings.ReplaceAll(string(req.reply), "n0003", ""); strings.Contains(others, "n0") {
		t.Errorf("the answer reveals other namespaces: %q", others)
	}
}

// TestListenerOfANamespace checks that a listener with a namespace puts Python's clients into the
// namespace, and refuses Go's clients that choose another one.
func TestListenerOfANamespace(t *testing.T) {
	t.Parallel()
	spaces := &memSpaces{}
	s, url := serve(t, partd.NewDict(), &ServerOptions{Namespaces: spaces})
	l := must.Get(Listen("tcp://127.0.0.1:0"))(t)
	go s.ServeWith(ctx, l, &ServeOptions{Namespace: "job7"})
	p := openPeer(t, URL(l.Addr()))
	must.Get(p.Write(message("append", "k", "python")))(t)
	must.Do(t, dial(t, URL(l.Addr()), nil).Append(ctx, entry("g", "go")))
	must.Fail(t, must.Err(Dial(ctx, URL(l.Addr())+"/other", nil)), fs.ErrPermission, "Dial with another namespace")
	c := dial(t, url+"/job7", nil)
	for range 1000 {
		values := must.Get(c.Get(ctx, "k", "g"))(t)
		if string(values[0])+string(values[1]) == "pythongo" {
			return
		}
	}
	t.Error("the namespace lacks values that clients of its listener appended")
}
