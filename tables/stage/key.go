package stage

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"
)

const (
	formatVersion = "1" // a part of every key: what keeps results in another way changes it

	// maxNested bounds how deep parameters are in one another, which one that holds
	// itself would be without end.
	maxNested = 100
)

// keyed is a stage with its key and what that is made of.
type keyed struct {
	*node
	key    string
	parts  map[string]string
	needs  []string // keys of all ancestors, sorted
	files  []string
	began  time.Time // hashing them
	hashed map[string]hashed
	ttl    time.Duration // of it and all ancestors, the shortest; 0: none
}

// counted is what is kept with an end that is no later than these stages' own TTL says: it
// may have been kept by a program with another.
func (k *keyed) counted(i *Info) *Info {
	if i == nil || k.ttl == 0 {
		return i
	}
	mine := *i
	mine.Expires = earlier(i.Expires, i.Made.Add(k.ttl))
	return &mine
}

// keysOf returns the stages of a pipeline with their keys, ancestors first.
func (r *Results) keysOf(last *node) (all []*keyed, err error) {
	if r == nil || r.keep == nil {
		return nil, &Error{"hash", last.name, errors.New("the Results are none that Open returned")}
	}
	byNode, names := map[*node]*keyed{}, map[string]*node{}
	var visit func(n *node) error
	visit = func(n *node) error {
		if byNode[n] != nil {
			return nil
		}
		for _, a := range n.above {
			if err := visit(a); err != nil {
				return err
			}
		}
		k, err := r.keyOf(n, byNode)
		if err == nil && names[n.name] != nil {
			err = errors.New("another stage of the pipeline has this name")
		}
		if err != nil {
			return &Error{"hash", n.name, err}
		}
		names[n.name], byNode[n] = n, k
		all = append(all, k)
		return nil
	}
	return all, errors.Join(visit(last), r.hashes.save(r))
}

// keyOf hashes what a stage is made of; its ancestors have their keys.
func (r *Results) keyOf(n *node, above map[*node]*keyed) (k *keyed, err error) {
	if n.err != nil {
		return nil, n.err
	}
	k = &keyed{node: n, parts: map[string]string{"format": formatVersion}, began: time.Now(), hashed: map[string]hashed{}, ttl: n.ttl}
	code := newDigest(n.version)
	for _, c := range n.code {
		if err := c.hash(code); err != nil {
			return nil, err
		}
	}
	k.parts["code"] = code.sum()
	if len(n.code) > 0 {
		if k.parts["modules"], err = hashModules(n.modules); err != nil {
			return nil, err
		}
	}
	params := newDigest()
	var types []string
	for i, p := range n.params {
		if err := checkParam(reflect.ValueOf(p), fmt.Sprintf("parameter %d", i+1), 0, &types); err != nil {
			return nil, err
		}
		params.add(fmt.Sprintf("%T", p), fmt.Sprintf("%#v", p))
	}
	slices.Sort(types) // those of a map come in any order
	params.add(types...)
	k.parts["parameters"] = params.sum()
	k.parts["result"] = n.result.PkgPath() + "." + n.result.String()
	if n.codec != nil {
		k.parts["result"] += " " + n.codec.name
	}
	if k.files, err = match(n.patterns); err != nil {
		return nil, err
	}
	for _, f := range k.files {
		if k.hashed[f], err = r.hashes.sum(f); err != nil {
			return nil, err
		}
		k.parts["file "+f] = k.hashed[f].Sum
	}
	for _, a := range n.above {
		k.parts["stage "+a.name] = above[a].key
		if ttl := above[a].ttl; ttl > 0 && (k.ttl == 0 || ttl < k.ttl) {
			k.ttl = ttl
		}
		k.needs = append(append(k.needs, above[a].key), above[a].needs...)
	}
	slices.Sort(k.needs)
	k.needs = slices.Compact(k.needs)
	key := newDigest(n.name)
	for _, name := range slices.Sorted(maps.Keys(k.parts)) {
		key.add(name, k.parts[name])
	}
	key.add(k.files...) // in the order in which the function gets them
	k.key = key.sum()
	return k, nil
}

// checkParam returns an error unless what %#v writes of a value is the value, and nothing
// else, but for the types of what is in interfaces, which it adds to types.
func checkParam(v reflect.Value, at string, depth int, types *[]string) (err error) {
	if depth > maxNested {
		return fmt.Errorf("%s is more than %d levels deep, or holds itself", at, maxNested)
	}
	if !v.IsValid() {
		return nil
	}
	if v.CanInterface() {
		switch x := v.Interface().(type) {
		case time.Time: // of which the clock of its place may show two the same
			*types = append(*types, at+" "+x.UTC().String())
			return nil
		case fmt.Formatter:
			return fmt.Errorf("%s is a %v, which writes itself: give what it holds instead", at, v.Type())
		case fmt.GoStringer:
			return nil
		}
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Func, reflect.Chan, reflect.UnsafePointer:
		return fmt.Errorf("%s is a %v, which has no hash: give what it depends on instead", at, v.Type())
	case reflect.Interface:
		if !v.IsNil() {
			*types = append(*types, at+" "+v.Elem().Type().PkgPath()+" "+v.Elem().Type().String())
		}
		return checkParam(v.Elem(), at, depth+1, types)
	case reflect.Struct:
		for field, value := range v.Fields() {
			err = errors.Join(err, checkParam(value, at+"."+field.Name, depth+1, types))
		}
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			err = errors.Join(err, checkParam(v.Index(i), fmt.Sprintf("%s[%d]", at, i), depth+1, types))
		}
	case reflect.Map:
		for key, value := range v.Seq2() {
			err = errors.Join(err, checkParam(key, at+", a key", depth+1, types), checkParam(value, fmt.Sprintf("%s[%v]", at, key), depth+1, types))
		}
	}
	return err
}

// unchanged returns an error if raw files are not what the key was made of. Those that had
// been changed only just before are compared by their content, as another change may have
// had the same times.
func (k *keyed) unchanged() error {
	for f, was := range k.hashed {
		is, err := stampOf(f)
		sum := was.Sum
		if err == nil && !is.settled(k.began) {
			sum, err = hashFile(f)
		}
		if err != nil || is != was.Stamp || sum != was.Sum {
			return fmt.Errorf("the file %s was changed while the stage ran, and nothing is kept: run it again", f)
		}
	}
	return nil
}
