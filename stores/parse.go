package stores

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/go-partd/partd/remote"
	"github.com/go-partd/partd/shards"
)

// parsedURL is a URL taken apart.
type parsedURL struct {
	layers       []layer
	layerOptions []options
	store        store
	storeOptions options
	location     string
}

// parse takes a URL apart and finds the one that each option is for.
func (t *Set) parse(rawURL string, defaults map[string]string) (*parsedURL, error) {
	schemes, prefixes := t.known()
	prefix, rest, ok := strings.Cut(rawURL, ":")
	if !ok {
		return nil, fmt.Errorf("no scheme: write %s (with DIR a directory; layers go before, as in buffer+file:DIR)", schemes)
	}
	names := strings.Split(prefix, "+")
	if len(names)-1 > MaxLayers {
		return nil, fmt.Errorf("%d layers, but at most %d are allowed", len(names)-1, MaxLayers)
	}
	u := &parsedURL{}
	for _, name := range names[:len(names)-1] {
		i := slices.IndexFunc(layers(), func(l layer) bool { return l.name == name })
		if i < 0 {
			return nil, fmt.Errorf("unknown layer %q: there is %s", name, prefixes)
		}
		u.layers = append(u.layers, layers()[i])
	}
	name := names[len(names)-1]
	all := t.stores()
	i := slices.IndexFunc(all, func(s store) bool { return s.name == name })
	if i < 0 && (name == "s3" || name == "gs") {
		return nil, fmt.Errorf("%s: is a store in a bucket: this program cannot open it, partd-cloud can", name)
	}
	if i < 0 {
		return nil, fmt.Errorf("unknown scheme %q: there is %s", name, schemes)
	}
	u.store = all[i]
	path, query, _ := strings.Cut(rest, "?")
	if err := u.setLocation(path); err != nil {
		return nil, err
	}
	if err := u.setOptions(query, defaults); err != nil {
		return nil, err
	}
	return u, u.checkPlace(path)
}

// checkPlace checks that a store has one place: a location, or a directory for
// temporary ones.
func (u *parsedURL) checkPlace(path string) error {
	temp := u.storeOptions.text("temp", "")
	switch {
	case u.store.location && u.location == "" && temp == "":
		return fmt.Errorf("no location: write %s", u.store.usage)
	case temp != "" && u.location != "":
		return fmt.Errorf("location %q beside temp=%s: write %s:?temp=DIR for a store that is removed when it is closed", path, temp, u.store.name)
	}
	return nil
}

func (u *parsedURL) setLocation(path string) error {
	if u.store.remote {
		return u.setAddress(path)
	}
	location, err := url.PathUnescape(path)
	if err != nil {
		return fmt.Errorf("location %q: %w (a percent sign in a path is written %%25)", path, err)
	}
	after, ok := strings.CutPrefix(location, "//")
	switch {
	case u.store.bucket && !ok:
		return fmt.Errorf("location %q: write %s", path, u.store.usage)
	case ok && !u.store.bucket:
		if !strings.HasPrefix(after, "/") {
			return fmt.Errorf("location %q names a host: a local path has one slash or three", path)
		}
		fallthrough
	case ok:
		location = after
	}
	switch {
	case !u.store.location && location != "":
		return fmt.Errorf("location %q: %s has none", path, u.store.usage)
	case strings.ContainsRune(location, 0):
		return errors.New("a NUL byte in the location")
	}
	u.location = location
	return nil
}

// setAddress sets the location of a server, which remote takes apart.
func (u *parsedURL) setAddress(path string) error {
	rest, ok := strings.CutPrefix(path, "//")
	if !ok || rest == "" {
		return fmt.Errorf("address %q: write %s", path, u.store.usage)
	}
	names, urls := servers(u.store.name, path)
	for _, url := range urls {
		if err := remote.CheckURL(url); err != nil {
			return err
		}
	}
	u.location = path
	return shards.CheckNames(names)
}

// setOptions gives each option to the layer or the store that it is for.
func (u *parsedURL) setOptions(query string, defaults map[string]string) error {
	u.storeOptions = newOptions(u.store.name, u.store.options)
	all := []options{u.storeOptions}
	for _, l := range u.layers {
		o := newOptions(l.name, l.options)
		u.layerOptions = append(u.layerOptions, o)
		all = append(all, o)
	}
	for _, pair := range strings.FieldsFunc(query, func(r rune) bool { return r == '&' }) {
		name, value, ok := strings.Cut(pair, "=")
		value, err := url.QueryUnescape(value)
		if err != nil || !ok || value == "" {
			return fmt.Errorf("option %q: write NAME=VALUE", pair)
		}
		owner, short, qualified := strings.Cut(name, ".")
		if !qualified {
			owner, short = "", name
		}
		var takers []options
		for _, o := range all {
			if (owner == "" || owner == o.owner) && o.knows(short) {
				takers = append(takers, o)
			}
		}
		switch {
		case len(takers) == 0:
			return fmt.Errorf("unknown option %q: there is %s", name, describeOptions(all))
		case len(takers) > 1 && owner == "":
			return fmt.Errorf("option %q fits several layers: write %s", name, qualify(takers, short))
		}
		// Of layers with one name each has values of its own, always the same.
		if _, given := takers[0].values[short]; given {
			return fmt.Errorf("option %q is given twice", name)
		}
		for _, o := range takers {
			o.values[short] = value
		}
	}
	for name, value := range defaults {
		for _, o := range all {
			if _, given := o.values[name]; !given && o.knows(name) {
				o.values[name] = value
			}
		}
	}
	// Checked before anything is opened, so that a wrong value leaves nothing.
	var errs []error
	for _, o := range all {
		errs = append(errs, o.check())
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if u.store.check != nil {
		errs = append(errs, u.store.check(u.storeOptions))
	}
	for i, l := range u.layers {
		if l.check != nil {
			errs = append(errs, l.check(u.layerOptions[i]))
		}
	}
	return errors.Join(errs...)
}

// Part is a layer or a scheme of a URL.
type Part struct {
	Name  string // "zstd+", "log:" or "tcp://"
	About string // what it is, in a few words
}

// Parts returns the parts of URLs: the schemes of stores, and the layers that
// precede them.
func Parts() (schemes, prefixes []Part) { return NewSet().Parts() }

// Parts is like the function [Parts], with the schemes of the set.
func (t *Set) Parts() (schemes, prefixes []Part) {
	for _, s := range t.stores() {
		scheme := s.name + ":"
		if s.remote || s.bucket {
			scheme += "//"
		}
		schemes = append(schemes, Part{scheme, s.about})
	}
	for _, l := range layers() {
		prefixes = append(prefixes, Part{l.name + "+", l.about})
	}
	return schemes, prefixes
}

// known lists what there is, for messages.
func (t *Set) known() (schemes, prefixes string) {
	var all, over []string
	for _, s := range t.stores() {
		all = append(all, s.usage)
	}
	for _, l := range layers() {
		over = append(over, l.name)
	}
	return strings.Join(all, ", "), strings.Join(over, ", ")
}
