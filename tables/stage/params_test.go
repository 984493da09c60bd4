package stage

import "testing"

// TestParamTypes checks that equal values of different types in an interface have different keys.
func TestParamTypes(t *testing.T) {
	t.Parallel()
	type count int
	keys := map[string]any{}
	r, err := Open(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for _, p := range []any{1, 1.0, int64(1), count(1)} {
		for _, v := range []any{[]any{p}, map[string]any{"n": p, "m": "x"}} {
			k, err := r.keyOf(&node{name: "x", version: "1", params: []any{v}, result: tableType}, nil)
			if err != nil {
				t.Fatal(err)
			}
			second, err := r.keyOf(&node{name: "x", version: "1", params: []any{v}, result: tableType}, nil)
			if err != nil || second.key != k.key {
				t.Errorf("keyOf returned two different keys for %#v: %v", v, err)
			}
			if other, ok := keys[k.key]; ok {
				t.Errorf("%#v, which contains a %T, has the same key as %v", v, p, other)
			}
			keys[k.key] = v
		}
	}
}

// TestTypesInMap checks that a map of values of several types always has the same key, although Go visits maps in random
// order.
func TestTypesInMap(t *testing.T) {
	r, err := Open(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	keys := map[string]bool{}
	for range 20 {
		param := map[string]any{"a": 1, "b": "1", "c": 1.0, "d": int8(1), "e": true, "f": uint(1)}
		k, err := r.keyOf(&node{name: "x", version: "1", params: []any{param}, result: tableType}, nil)
		if err != nil {
			t.Fatal(err)
		}
		keys[k.key] = true
	}
	if len(keys) != 1 {
		t.Errorf("keyOf returned %d keys for one map", len(keys))
	}
}
