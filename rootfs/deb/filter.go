package deb

import (
	"fmt"
	"regexp"
	"strings"
)

// filter is which of packages' files are unpacked, as dpkg's options --path-exclude and --path-include say it: of those that match, the last one counts.
type filter []rule

type rule struct {
	include bool
	pattern *regexp.Regexp
	fixed   string // the pattern's beginning without special characters
}

// The names of the options, as in dpkg.cfg(5).
const (
	pathExclude = "path-exclude"
	pathInclude = "path-include"
)

// parseFilter reads options such as --path-exclude=/usr/share/man/*. It ignores others.
func parseFilter(options []string) (filter, error) {
	var f filter
	for _, option := range options {
		name, pattern, _ := strings.Cut(strings.TrimPrefix(option, "--"), "=")
		if name != pathExclude && name != pathInclude {
			continue
		}
		compiled, err := compile(pattern)
		if err != nil {
			return nil, fmt.Errorf("reading the pattern %s: %w", pattern, err)
		}
		fixed := strings.TrimRight(pattern[:strings.IndexAny(pattern+"*", `*?[\`)], "/")
		f = append(f, rule{name == pathInclude, compiled, fixed})
	}
	return f, nil
}

// compile translates a pattern of glob(7) whose wildcards match slashes too.
func compile(pattern string) (*regexp.Regexp, error) {
	var b strings.Builder
	b.WriteString(`(?s)\A`)
	for i := 0; i < len(pattern); i++ {
		switch c := pattern[i]; c {
		case '*':
			b.WriteString(".*")
		case '?':
			b.WriteString(".")
		case '\\':
			i++
			b.WriteString(regexp.QuoteMeta(pattern[i:min(i+1, len(pattern))]))
		case '[':
			end := strings.IndexByte(pattern[min(i+2, len(pattern)):], ']')
			if end < 0 {
				b.WriteString(`\[`)
				continue
			}
			class := pattern[i+1 : i+2+end]
			i += 2 + end
			if negated, ok := strings.CutPrefix(class, "!"); ok {
				class = "^" + negated
			}
			b.WriteString("[" + strings.NewReplacer(`\`, `\\`, "[", `\[`).Replace(class) + "]")
		default:
			b.WriteString(regexp.QuoteMeta(string(c)))
		}
	}
	return regexp.Compile(b.String() + `\z`)
}

// skips reports whether an entry, by its absolute name, is not to be unpacked. A directory, or a link that may lead to one, is kept where something in it could
// be included.
func (f filter) skips(name string, mayBeDir bool) bool {
	skip := false
	for _, r := range f {
		if skip == r.include && r.pattern.MatchString(name) {
			skip = !r.include
		}
	}
	if !skip || !mayBeDir {
		return skip
	}
	for _, r := range f {
		if r.include && strings.HasPrefix(name, r.fixed) {
			return false
		}
	}
	return true
}
