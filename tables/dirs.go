package tables

import (
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// withoutDir is Store.WithoutDir.
func (s *core) withoutDir(text string, others ...string) string {
	s.dirsOnce.Do(func() {
		home, _ := os.UserHomeDir()
		s.dirsPattern = compileDirs(strings.TrimSuffix(s.cat.DataLocation(), "/data/"), s.dir, s.local, s.opts.TailDir, s.opts.CacheDir, os.TempDir(), home)
	})
	// The others come first, because they may be in one of the store's directories.
	for _, pattern := range []*regexp.Regexp{compileDirs(others...), s.dirsPattern} {
		if pattern != nil {
			// twice, because matches overlap if one character is between them
			text = pattern.ReplaceAllString(pattern.ReplaceAllString(text, "$1…$2"), "$1…$2")
		}
	}
	return text
}

// compileDirs returns a pattern that matches dirs, in several spellings, or nil if there are none.
func compileDirs(dirs ...string) *regexp.Regexp {
	var roots []string
	for _, dir := range dirs {
		resolved, _ := filepath.EvalSymlinks(dir)
		for _, root := range []string{strings.TrimPrefix(dir, "file://"), resolved} {
			root = strings.TrimRight(root, `/\`)
			if strings.ContainsAny(root, `/\`) {
				quoted := strconv.Quote(root)
				roots = append(roots, regexp.QuoteMeta(root), regexp.QuoteMeta(quoted[1:len(quoted)-1]), regexp.QuoteMeta((&url.URL{Path: root}).EscapedPath()))
			}
		}
	}
	if len(roots) == 0 {
		return nil
	}
	// because the first root that matches applies
	slices.SortFunc(roots, func(a, b string) int { return len(b) - len(a) })
	return regexp.MustCompile(`(^|[^\w/.%-])(?:file:(?://)?)?(?:` + strings.Join(roots, "|") + `)($|[^\pL\pN_])`)
}
