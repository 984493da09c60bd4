package icecat

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/internal/testutil/must"
)

// TestKeys checks that keys are unique, that each scope keeps its newest keys, and that expired keys are forgotten.
func TestKeys(t *testing.T) {
	c := must.Get(Open(t.Context(), t.TempDir(), Options{FS: vfs.OS{}}))(t)
	defer func() { must.Do(t, c.Close()) }()
	defer func(n int) { maxKeys = n }(maxKeys)
	maxKeys = 3
	add := func(id, scope string) error {
		return c.AddKey(WithKey(t.Context(), &Key{ID: id, Scope: scope, Status: 204}))
	}
	known := func(ids ...string) (found string) {
		for _, id := range ids {
			k := must.Get(c.Key(context.Background(), id, ""))(t)
			if k != nil {
				found += id
			}
		}
		return found
	}
	for _, id := range []string{"a", "b", "c", "d", "e"} {
		must.Do(t, add(id, "one"))
	}
	must.Do(t, errors.Join(add("f", "two"), add("g", "two")))
	if got := known("a", "b", "c", "d", "e", "f", "g"); got != "cdefg" {
		t.Errorf("the keys %q are known, want %q", got, "cdefg")
	}
	if err := add("f", "one"); !errors.Is(err, ErrKeyExists) {
		t.Errorf("a second key f: %v, want ErrKeyExists", err)
	}
	for id, age := range map[string]time.Duration{"c": KeyLifetime, "d": 2 * KeyLifetime} {
		must.Get(c.writePool.ExecContext(t.Context(), `UPDATE partd_keys SET at_ms=? WHERE id=?`, time.Now().Add(-age).UnixMilli(), id))(t)
	}
	must.Do(t, add("h", "two"))
	if got := known("c", "d", "e", "f", "g", "h"); got != "cefgh" {
		t.Errorf("the keys %q are known, want %q", got, "cefgh")
	}
}

// TestKeyOfFailedTransaction checks that a failed transaction records no key.
func TestKeyOfFailedTransaction(t *testing.T) {
	c := must.Get(Open(t.Context(), t.TempDir(), Options{FS: vfs.OS{}}))(t)
	defer c.Close() //nolint:errcheck // nothing is pending
	for _, want := range []error{nil, ErrExists} {
		ctx := WithKey(t.Context(), &Key{ID: fmt.Sprint(want)})
		if err := c.CreateNamespace(ctx, "ns", nil); !errors.Is(err, want) {
			t.Errorf("CreateNamespace: %v, want %v", err, want)
		}
		if k, err := c.Key(t.Context(), fmt.Sprint(want), ""); (k != nil) != (want == nil) || err != nil {
			t.Errorf("after %v, the key is %v, error %v", want, k, err)
		}
	}
}

// TestExpiredKeys checks that a transaction after a pause, in which many keys expired, forgets only some of them.
func TestExpiredKeys(t *testing.T) {
	c := must.Get(Open(t.Context(), t.TempDir(), Options{FS: vfs.OS{}}))(t)
	defer c.Close() //nolint:errcheck // nothing is pending
	must.Do(t, c.inTx(t.Context(), func(tx *transaction) {
		for i := range 250 {
			tx.exec(insertKey, fmt.Sprint(i), "", "one", i, 204, "", "", "")
		}
	}))
	for i, want := range []int{151, 52, 3, 4} {
		must.Do(t, c.AddKey(WithKey(t.Context(), &Key{ID: fmt.Sprint("new", i)})))
		if ids, err := c.queryStrings(t.Context(), `SELECT id FROM partd_keys`); len(ids) != want || err != nil {
			t.Errorf("after insertion %d, there are %d keys, error %v, want %d", i+1, len(ids), err, want)
		}
	}
}

// TestKeyOfMissingNamespace checks that dropping a namespace records the key even if another transaction has just
// dropped the namespace.
func TestKeyOfMissingNamespace(t *testing.T) {
	c := must.Get(Open(t.Context(), t.TempDir(), Options{FS: vfs.OS{}}))(t)
	defer c.Close() //nolint:errcheck // nothing is pending
	must.Do(t, c.DropNamespace(WithKey(t.Context(), &Key{ID: "a"}), "ns"))
	if k, err := c.Key(t.Context(), "a", ""); k == nil || err != nil {
		t.Errorf("the key is %v, error %v, want that it is recorded", k, err)
	}
}
