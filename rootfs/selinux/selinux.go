// Package selinux gives the entries of a root tree the security contexts that the tree's own SELinux policy wants, without any program of the tree.
package selinux

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/imgbuild/imgbuild/layers"
)

// maxFile bounds a file of the policy, in bytes.
const maxFile = 64 << 20

// Attribute is the extended attribute that holds a context, which a zero byte ends.
const Attribute = "security.selinux"

func contextsFile(policy string) string {
	return "etc/selinux/" + policy + "/contexts/files/file_contexts"
}

// Has reports whether a tree has the policy.
func Has(tree *layers.Tree, policy string) bool {
	_, node, err := tree.Resolve(contextsFile(policy))
	return err == nil && node.IsRegular()
}

// Label gives each entry of the tree its context, as setfiles -F does, but for what lies in /dev, /proc and /sys: those are of the machine that runs.
func Label(edit *layers.Editor, policy string) error {
	contexts, err := read(edit, policy)
	if err != nil {
		return fmt.Errorf("reading the SELinux policy %s of the root tree: %w", policy, err)
	}
	tree := edit.Tree()
	// All names of a file keep to be names of one file.
	copies := map[*layers.Node]*layers.Node{}
	return tree.Walk(func(name string, n *layers.Node) error {
		if err := label(edit, contexts, copies, name, n); err != nil {
			return fmt.Errorf("labelling /%s: %w", name, err)
		}
		if name == "dev" || name == "proc" || name == "sys" {
			return fs.SkipDir
		}
		return nil
	})
}

func label(edit *layers.Editor, contexts *contexts, copies map[*layers.Node]*layers.Node, name string, n *layers.Node) error {
	full := "/" + name
	if name == "." {
		full = "/"
	}
	context, ok := contexts.lookup(full, n.Type())
	if !ok {
		return nil
	}
	context += "\x00"
	if old, _ := n.Xattr(Attribute); old == context {
		return nil
	}
	if n.IsDir() {
		return edit.Change(name, func(n *layers.Node) { set(n, context) })
	}
	c, ok := copies[n]
	if !ok {
		changed := *n
		changed.Xattrs = slices.Clone(n.Xattrs)
		c = &changed
		set(c, context)
		copies[n] = c
	}
	return edit.Put(name, c)
}

func set(n *layers.Node, context string) {
	n.Xattrs = slices.DeleteFunc(n.Xattrs, func(x layers.Xattr) bool { return x.Name == Attribute })
	n.Xattrs = append(n.Xattrs, layers.Xattr{Name: Attribute, Value: context})
	slices.SortFunc(n.Xattrs, func(a, b layers.Xattr) int { return strings.Compare(a.Name, b.Name) })
}

// contexts are the rules of a policy, selabel_file(5).
type contexts struct {
	exact map[string][]rule // by path
	// patterns are by the folder that everything which they match lies in; each list is in the order of the files.
	patterns map[string][]*rule
	aliases  [][2]string // prefixes of paths, and what is looked for instead; the longest first
}

// rule is one line of file_contexts(5).
type rule struct {
	kind    uint32 // file type, 0 for all
	pattern string
	literal string // what all paths begin with that the pattern matches
	context string // "" to leave the entry alone
	order   int
	regexp  *regexp.Regexp // nil until it is needed
	broken  bool
}

func read(edit *layers.Editor, policy string) (*contexts, error) {
	c := &contexts{exact: map[string][]rule{}, patterns: map[string][]*rule{}}
	base := contextsFile(policy)
	order := 0
	for _, suffix := range []string{"", ".homedirs", ".local"} {
		data, err := edit.ReadFile(base+suffix, maxFile)
		if errors.Is(err, fs.ErrNotExist) && suffix != "" {
			continue
		}
		if err != nil {
			return nil, err
		}
		number := 0
		for line := range strings.Lines(string(data)) {
			number++
			order++
			if err := c.add(line, order); err != nil {
				return nil, fmt.Errorf("/%s:%d: %w", base+suffix, number, err)
			}
		}
	}
	for _, suffix := range []string{".subs_dist", ".subs"} {
		data, err := edit.ReadFile(base+suffix, maxFile)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		for line := range strings.Lines(string(data)) {
			if fields := strings.Fields(line); len(fields) == 2 && !strings.HasPrefix(fields[0], "#") {
				c.aliases = append(c.aliases, [2]string{fields[0], fields[1]})
			}
		}
	}
	slices.SortStableFunc(c.aliases, func(a, b [2]string) int { return len(b[0]) - len(a[0]) })
	return c, nil
}

// kinds are the file types as the rules name them.
func kindOf(flag string) (uint32, bool) {
	kind, ok := map[string]uint32{
		"--": layers.TypeRegular, "-d": layers.TypeDir, "-l": layers.TypeSymlink, "-c": layers.TypeChar, "-b": layers.TypeBlock, "-p": layers.TypeFIFO, "-s": 0o140000,
	}[flag]
	return kind, ok
}

func (c *contexts) add(line string, order int) error {
	fields := strings.Fields(line)
	if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
		return nil
	}
	r := rule{pattern: fields[0], order: order}
	switch len(fields) {
	case 2:
	case 3:
		kind, ok := kindOf(fields[1])
		if !ok {
			return fmt.Errorf("%q is no file type", fields[1])
		}
		r.kind = kind
	default:
		return fmt.Errorf("the line has %d fields, not a path, a type and a context", len(fields))
	}
	if context := fields[len(fields)-1]; context != "<<none>>" {
		r.context = context
	}
	literal, whole := literalPrefix(r.pattern)
	if whole {
		c.exact[literal] = append(c.exact[literal], r)
		return nil
	}
	r.literal = literal
	dir := literal[:strings.LastIndex(literal, "/")+1]
	c.patterns[dir] = append(c.patterns[dir], &r)
	return nil
}

// literalPrefix returns what a pattern begins with before its first special character; whole says that it has none.
func literalPrefix(pattern string) (literal string, whole bool) {
	var b strings.Builder
	for i := 0; i < len(pattern); i++ {
		switch pattern[i] {
		case '.', '^', '$', '?', '*', '+', '|', '[', '(', '{':
			literal = b.String()
			// What may be repeated or left out is not fixed, nor is what may be another alternative.
			if strings.ContainsRune("?*{", rune(pattern[i])) && literal != "" {
				literal = literal[:len(literal)-1]
			}
			if strings.Contains(outsideGroups(pattern), "|") {
				literal = ""
			}
			return literal, false
		case '\\':
			i++
			if i < len(pattern) {
				b.WriteByte(pattern[i])
			}
		default:
			b.WriteByte(pattern[i])
		}
	}
	return b.String(), true
}

// outsideGroups returns a pattern without what stands in parentheses.
func outsideGroups(pattern string) string {
	depth := 0
	return strings.Map(func(r rune) rune {
		switch r {
		case '(':
			depth++
		case ')':
			depth--
		default:
			if depth == 0 {
				return r
			}
		}
		return -1
	}, pattern)
}

// lookup returns the context for a path: that of the last rule for just this path or else of the last pattern that matches. ok is false for entries that
// are to be left alone.
func (c *contexts) lookup(name string, kind uint32) (context string, ok bool) {
	name = c.unalias(name)
	for _, r := range slices.Backward(c.exact[name]) {
		if r.kind == 0 || r.kind == kind {
			return r.context, r.context != ""
		}
	}
	best := c.last(nil, "", name, kind)
	for dir := name; dir != "/"; dir = path.Dir(dir) {
		best = c.last(best, dir+"/", name, kind)
	}
	best = c.last(best, "/", name, kind)
	if best == nil {
		return "", false
	}
	return best.context, best.context != ""
}

// last returns the last pattern of a folder that matches, or best if that comes later.
func (c *contexts) last(best *rule, dir, name string, kind uint32) *rule {
	for _, r := range slices.Backward(c.patterns[dir]) {
		if best != nil && r.order < best.order {
			break
		}
		if (r.kind == 0 || r.kind == kind) && r.matches(name) {
			return r
		}
	}
	return best
}

func (c *contexts) unalias(name string) string {
	for _, a := range c.aliases {
		if rest, ok := strings.CutPrefix(name, a[0]); ok && (rest == "" || rest[0] == '/') {
			if a[1] == "/" && rest != "" {
				return rest
			}
			return a[1] + rest
		}
	}
	return name
}

// matches reports whether the rule's pattern matches all of a path. One that is no regular expression here, such as with a look-ahead, matches nothing.
func (r *rule) matches(name string) bool {
	if !strings.HasPrefix(name, r.literal) {
		return false
	}
	if r.regexp == nil && !r.broken {
		compiled, err := regexp.Compile(`(?s)^(?:` + r.pattern + `)$`)
		r.regexp, r.broken = compiled, err != nil
	}
	return !r.broken && r.regexp.MatchString(name)
}
