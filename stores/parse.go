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

type parsedURL struct {
	layers       []layer
	layerOptions []options
	store        store
	storeOptions options
	location     string
}

// parse parses a URL and assigns each option to its layer or store.
func (t *Set) parse(rawURL string, defaults map[string]string) (*parsedURL, error) {
	schemes, prefixes := t.knownNames()
	prefix, afterScheme, ok := strings.Cut(rawURL, ":")
	if !ok {
		return nil, fmt.Errorf("no scheme: write %s, where DIR is a directory; layers go in front, as in buffer+file:DIR", schemes)
	}
	names := strings.Split(prefix, "+")
	if len(names)-1 > MaxLayers {
		return nil, fmt.Errorf("%d layers, but at most %d are allowed", len(names)-1, MaxLayers)
	}
	u := &parsedURL{}
	for _, name := range names[:len(names)-1] {
		i := slices.IndexFunc(layers(), func(l layer) bool { return l.name == name })
		if i < 0 {
			return nil, fmt.Errorf("unknown layer %q: the layers are %s", name, prefixes)
		}
		u.layers = append(u.layers, layers()[i])
	}
	name := names[len(names)-1]
	schemeList := t.stores()
	i := slices.IndexFunc(schemeList, func(s store) bool { return s.name == name })
	if i < 0 && (name == "s3" || name == "gs") {
		return nil, fmt.Errorf("scheme %q is for stores in a bucket: use partd-cloud to open it", name)
	}
	if i < 0 {
		return nil, fmt.Errorf("unknown scheme %q: write %s", name, schemes)
	}
	u.store = schemeList[i]
	path, query, _ := strings.Cut(afterScheme, "?")
	if err := u.setLocation(path); err != nil {
		return nil, err
	}
	if err := u.setOptions(query, defaults); err != nil {
		return nil, err
	}
	return u, u.checkLocation(path)
}

// checkLocation returns an error if the URL has both a location and the "temp" option, or if it has
// neither and the scheme needs a location.
func (u *parsedURL) checkLocation(path string) error {
	temp := u.storeOptions.text("temp", "")
	switch {
	case u.store.hasLocation && u.location == "" && temp == "":
		return fmt.Errorf("no location: write %s", u.store.usage)
	case temp != "" && u.location != "":
		return fmt.Errorf("location %q cannot be combined with temp=%s: for a store that is removed when it is closed, write %s:?temp=DIR", path, temp, u.store.name)
	}
	return nil
}

func (u *parsedURL) setLocation(path string) error {
	if u.store.isRemote {
		return u.setAddress(path)
	}
	location, err := url.PathUnescape(path)
	if err != nil {
		return fmt.Errorf("location %q: %w (a percent sign in a path is written %%25)", path, err)
	}
	localPath, ok := strings.CutPrefix(location, "//")
	switch {
	case u.store.isBucket && !ok:
		return fmt.Errorf("location %q: write %s", path, u.store.usage)
	case ok && !u.store.isBucket:
		if !strings.HasPrefix(localPath, "/") {
			return fmt.Errorf("location %q names a host: a local path has one slash or three", path)
		}
		fallthrough
	case ok:
		location = localPath
	}
	switch {
	case !u.store.hasLocation && location != "":
		return fmt.Errorf("location %q: %s has no location", path, u.store.usage)
	case strings.ContainsRune(location, 0):
		return errors.New("the location contains a NUL byte")
	}
	u.location = location
	return nil
}

// setAddress checks the address of one or more servers and stores it as the location.
func (u *parsedURL) setAddress(path string) error {
	hosts, ok := strings.CutPrefix(path, "//")
	if !ok || hosts == "" {
		return fmt.Errorf("address %q: write %s", path, u.store.usage)
	}
	names, urls := splitServers(u.store.name, path)
	for _, url := range urls {
		if err := remote.CheckURL(url); err != nil {
			return err
		}
	}
	u.location = path
	return shards.CheckNames(names)
}

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
		var owners []options
		for _, o := range all {
			if (owner == "" || owner == o.owner) && o.has(short) {
				owners = append(owners, o)
			}
		}
		switch {
		case len(owners) == 0:
			return fmt.Errorf("unknown option %q: the options are %s", name, describeOptions(all))
		case len(owners) > 1 && owner == "":
			return fmt.Errorf("option %q belongs to several layers: write %s", name, qualify(owners, short))
		}
		// Layers with the same name have the same values, so checking the first layer suffices.
		if _, isSet := owners[0].values[short]; isSet {
			return fmt.Errorf("option %q is given twice", name)
		}
		for _, o := range owners {
			o.values[short] = value
		}
	}
	for name, value := range defaults {
		for _, o := range all {
			if _, isSet := o.values[name]; !isSet && o.has(name) {
				o.values[name] = value
			}
		}
	}
	// Check all values before anything is opened, so that nothing is created if a value is invalid.
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

// Part is a layer or a scheme in a URL.
type Part struct {
	Name string // such as "zstd+", "log:" or "tcp://"
	Help string // a short description
}

// Parts returns all schemes and all layers. In a URL, layers precede the scheme.
func (t *Set) Parts() (schemes, prefixes []Part) {
	for _, s := range t.stores() {
		scheme := s.name + ":"
		if s.isRemote || s.isBucket {
			scheme += "//"
		}
		schemes = append(schemes, Part{scheme, s.help})
	}
	for _, l := range layers() {
		prefixes = append(prefixes, Part{l.name + "+", l.help})
	}
	return schemes, prefixes
}

func (t *Set) knownNames() (schemes, prefixes string) {
	var schemeList, layerList []string
	for _, s := range t.stores() {
		schemeList = append(schemeList, s.usage)
	}
	for _, l := range layers() {
		layerList = append(layerList, l.name)
	}
	return strings.Join(schemeList, ", "), strings.Join(layerList, ", ")
}
