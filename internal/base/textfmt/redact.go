package textfmt

import "regexp"

// secretPattern matches the parts of a URL that may be secret: the user and password before a host,
// also in an option's value and with an escaped @, and the values of options with such names.
var secretPattern = regexp.MustCompile(`(?i)((?:tcp|tls)://)[^?]*@` +
	`|(//)[^/?]*(?:@|%40)` +
	`|([?&][^=&]*=(?:[a-z]*://)?)[^&]*(?:@|%40)` +
	`|([?&][a-z0-9._-]*(?:token|password|secret|credential|access[_-]key)=)[^&]*`)

// RedactURL replaces everything that may be secret in a URL, so that messages can show it.
func RedactURL(rawURL string) string {
	return secretPattern.ReplaceAllStringFunc(rawURL, func(match string) string {
		groups := secretPattern.FindStringSubmatch(match)
		if groups[4] != "" {
			return groups[4] + "…"
		}
		return groups[1] + groups[2] + groups[3] + "…@"
	})
}

// urlPattern matches each URL in a text.
var urlPattern = regexp.MustCompile(`(?i)[a-z][a-z0-9+.-]*:[^\s"]*`)

// RedactURLs applies [RedactURL] to each URL in a message.
func RedactURLs(message string) string { return urlPattern.ReplaceAllStringFunc(message, RedactURL) }
