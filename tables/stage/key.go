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
	formatVersion = "1" // part of every key; change it when the storage format changes

	// maxNested limits the nesting of parameters, because a value that contains itself would recurse forever.
	maxNested = 100
)

// stageKey is a stage with its key and everything from which the key is computed.
type stageKey struct {
	*node
	key          string            // empty until the contents of all ancestors are known
	content      string            // stands for the result in the keys of later stages; see contentOf; empty until known
	parts        map[string]string // each input of the key, with its value or, in most cases, a hash of the value
	ancestorKeys []string          // keys of all ancestors, sorted
	files        []string
	hashStart    time.Time // when hashing started
	hashes       map[string]fileHash
	ttl          time.Duration // shortest TTL of the stage and of ancestors whose keys are in its key; 0 means none
}

// withTTL returns a copy of info that expires as early as k.ttl requires, because a program with a longer TTL may have
// stored the result.
func (k *stageKey) withTTL(info *Info) *Info {
	if info == nil || k.ttl == 0 {
		return info
	}
	copied := *info
	copied.Expires = earlier(info.Expires, info.Created.Add(k.ttl))
	return &copied
}

// contentOf returns a stage's content: the hash of its result, or its key if the result has no hash. info is nil if the
// result is not stored.
func (k *stageKey) contentOf(info *Info) string {
	if info != nil && info.Content != "" {
		return info.Content
	}
	return k.key
}

// setKnownKeys computes the keys and contents of stages that are known without running a stage. stages must list
// ancestors first. stored has the stored results, by key.
func (r *Results) setKnownKeys(stages []*stageKey, stored map[string]*Info) {
	byNode := map[*node]*stageKey{}
	for _, k := range stages {
		byNode[k.node] = k
		if slices.ContainsFunc(k.ancestors, func(a *node) bool { return byNode[a].content == "" }) {
			continue
		}
		k.setKey(func(a *node) *stageKey { return byNode[a] })
		if info := k.withTTL(stored[k.key]); !k.cache || info != nil && !info.expired(r.now()) {
			k.content = k.contentOf(info)
		}
	}
}

// hashInputs hashes everything that the keys of a pipeline's stages depend on, except results, ancestors first.
func (r *Results) hashInputs(last *node) (keys []*stageKey, err error) {
	if r == nil || r.backend == nil {
		return nil, &Error{"hash", last.name, errors.New("the Results were not opened: use a value that Open returned")}
	}
	visited, byName := map[*node]bool{}, map[string]*node{}
	var visit func(n *node) error
	visit = func(n *node) error {
		if visited[n] {
			return nil
		}
		visited[n] = true
		for _, a := range n.ancestors {
			if err := visit(a); err != nil {
				return err
			}
		}
		k, err := r.hashStage(n)
		if err == nil && byName[n.name] != nil {
			err = errors.New("another stage of the pipeline has the same name")
		}
		if err != nil {
			return &Error{"hash", n.name, err}
		}
		byName[n.name] = n
		keys = append(keys, k)
		return nil
	}
	return keys, errors.Join(visit(last), r.hashes.save(r))
}

func (r *Results) hashStage(n *node) (k *stageKey, err error) {
	if n.err != nil {
		return nil, n.err
	}
	k = &stageKey{node: n, parts: map[string]string{"format": formatVersion}, hashStart: time.Now(), hashes: map[string]fileHash{}, ttl: n.ttl}
	code := newDigest(n.version)
	for _, c := range n.code {
		if err := c.hash(code); err != nil {
			return nil, err
		}
	}
	k.parts["code"] = code.sum()
	if len(n.code) > 0 {
		k.parts["modules"], err = hashModules(n.modules)
		if err != nil {
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
	slices.Sort(types) // checkParam visits maps in random order.
	params.add(types...)
	k.parts["parameters"] = params.sum()
	k.parts["result"] = n.result.PkgPath() + "." + n.result.String()
	if n.codec != nil {
		k.parts["result"] += " " + n.codec.name
	}
	k.files, err = matchFiles(n.patterns)
	if err != nil {
		return nil, err
	}
	for _, f := range k.files {
		k.hashes[f], err = r.hashes.sum(f)
		if err != nil {
			return nil, err
		}
		k.parts["file "+f] = k.hashes[f].Sum
	}
	return k, nil
}

// setKey computes the key of a stage. The contents of its ancestors must be known.
func (k *stageKey) setKey(keyOf func(*node) *stageKey) {
	for _, n := range k.ancestors {
		a := keyOf(n)
		k.parts["stage "+a.name] = a.content
		if a.content == a.key && a.ttl > 0 && (k.ttl == 0 || a.ttl < k.ttl) {
			k.ttl = a.ttl
		}
		k.ancestorKeys = append(append(k.ancestorKeys, a.key), a.ancestorKeys...)
	}
	slices.Sort(k.ancestorKeys)
	k.ancestorKeys = slices.Compact(k.ancestorKeys)
	key := newDigest(k.name)
	for _, name := range slices.Sorted(maps.Keys(k.parts)) {
		key.add(name, k.parts[name])
	}
	key.add(k.files...) // The order of Inputs.Files matters too.
	k.key = key.sum()
}

// checkParam returns an error unless the format %#v represents a value completely. It appends to types the
// types of values in interfaces, which %#v omits.
func checkParam(v reflect.Value, name string, depth int, types *[]string) (err error) {
	if depth > maxNested {
		return fmt.Errorf("%s is nested more than %d levels deep, or contains itself", name, maxNested)
	}
	if !v.IsValid() {
		return nil
	}
	if v.CanInterface() {
		switch x := v.Interface().(type) {
		case time.Time: // A clock time can occur twice in a zone, so hash the UTC time too.
			*types = append(*types, name+" "+x.UTC().String())
			return nil
		case fmt.Formatter:
			return fmt.Errorf("%s is a %v, whose Format method may hide its content: pass the content instead", name, v.Type())
		case fmt.GoStringer:
			return nil
		}
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Func, reflect.Chan, reflect.UnsafePointer:
		return fmt.Errorf("%s is a %v, which cannot be hashed: pass the values that it depends on instead", name, v.Type())
	case reflect.Interface:
		if !v.IsNil() {
			*types = append(*types, name+" "+v.Elem().Type().PkgPath()+" "+v.Elem().Type().String())
		}
		return checkParam(v.Elem(), name, depth+1, types)
	case reflect.Struct:
		for field, value := range v.Fields() {
			err = errors.Join(err, checkParam(value, name+"."+field.Name, depth+1, types))
		}
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			err = errors.Join(err, checkParam(v.Index(i), fmt.Sprintf("%s[%d]", name, i), depth+1, types))
		}
	case reflect.Map:
		for key, value := range v.Seq2() {
			err = errors.Join(err, checkParam(key, name+", a key", depth+1, types), checkParam(value, fmt.Sprintf("%s[%v]", name, key), depth+1, types))
		}
	}
	return err
}

// checkUnchanged returns an error if raw files have changed since they were hashed. If a file had changed shortly before
// that, it also compares the content, because a further change may not have changed the file's times.
func (k *stageKey) checkUnchanged() error {
	for f, old := range k.hashes {
		current, err := stampOf(f)
		sum := old.Sum
		if err == nil && !current.isSettled(k.hashStart) {
			sum, err = hashFile(f)
		}
		if err != nil || current != old.Stamp || sum != old.Sum {
			return fmt.Errorf("the file %s changed while the stage ran, so the result was not stored: run the stage again", f)
		}
	}
	return nil
}
