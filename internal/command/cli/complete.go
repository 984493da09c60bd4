package cli

import (
	"context"
	"encoding/base64"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/command/cliutil"
)

// Limits that keep completion fast.
const (
	maxCompletions    = 1000
	completionTimeout = time.Second
)

// completeStore completes the URL of a store: first prefixes such as "zstd+" and the scheme, then
// the directory.
func completeStore(cmd *cobra.Command, _ []string, prefix string) ([]string, cobra.ShellCompDirective) {
	const noSpace = cobra.ShellCompDirectiveNoSpace | cobra.ShellCompDirectiveNoFileComp
	scheme, path, ok := strings.Cut(prefix, ":")
	if !ok {
		return completeScheme(cmd.Context(), prefix), noSpace
	}
	if strings.HasSuffix(scheme, "tcp") || strings.HasSuffix(scheme, "tls") {
		return nil, noSpace
	}
	slashes := ""
	if strings.HasSuffix(scheme, "ipc") {
		slashes, path = "//", strings.TrimPrefix(path, "//")
	}
	parent := path[:strings.LastIndexByte(path, '/')+1]
	entries, err := os.ReadDir("./" + parent)
	if strings.HasPrefix(parent, "/") {
		entries, err = os.ReadDir(parent)
	}
	if err != nil {
		return nil, noSpace
	}
	var urls []string
	for _, e := range entries {
		isCandidate := e.IsDir() || slashes != "" && e.Type() == fs.ModeSocket
		if isCandidate && strings.HasPrefix(parent+e.Name(), path) && cliutil.IsPrintable(e.Name()) && len(urls) < maxCompletions {
			urls = append(urls, scheme+":"+slashes+parent+e.Name())
		}
	}
	return urls, noSpace
}

// completeScheme completes the prefixes and the scheme of a URL, except mem:.
func completeScheme(ctx context.Context, prefix string) []string {
	typedPrefixes := prefix[:strings.LastIndexByte(prefix, '+')+1]
	schemes, prefixes := storeSet(ctx).Parts()
	var completions []string
	for _, p := range append(schemes, prefixes...) {
		if p.Name != "mem:" && strings.HasPrefix(typedPrefixes+p.Name, prefix) {
			completions = append(completions, typedPrefixes+p.Name+"\t"+p.Help)
		}
	}
	return completions
}

// completeKeys completes the keys in a store if the store exists.
func completeKeys(url *string, base64Keys *bool) cobra.CompletionFunc {
	return func(cmd *cobra.Command, previous []string, prefix string) ([]string, cobra.ShellCompDirective) {
		const keysOnly = cobra.ShellCompDirectiveNoFileComp
		if env.Apply(cmd) != nil {
			return nil, keysOnly
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), completionTimeout)
		defer cancel()
		store, err := openReading(ctx, *url, nil)
		if err != nil {
			return nil, keysOnly
		}
		defer closeReading(store, new(error)) // ignore the error, because nothing was written
		var keys []string
		for info, err := range partd.Keys(ctx, store) {
			if err != nil || len(keys) == maxCompletions {
				break
			}
			key := info.Key
			if *base64Keys {
				key = base64.StdEncoding.EncodeToString([]byte(key))
			}
			if strings.HasPrefix(key, prefix) && cliutil.IsPrintable(key) && !slices.Contains(previous, key) {
				keys = append(keys, key)
			}
		}
		return keys, keysOnly
	}
}
