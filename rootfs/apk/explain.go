package apk

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/internal/command"
	"github.com/imgbuild/imgbuild/rootfs/packages"
)

// explain turns the failure of apk into an error that names the place in the description and the way out.
func (s *Session) explain(err error, out *packages.Output, lines []string, wanted []description.Package) error {
	var exit *command.ExitError
	if !errors.As(err, &exit) || exit.Signal != "" {
		return out.Failed(err)
	}
	if e := s.missing(lines, wanted); e != nil {
		return e
	}
	if e := s.unread(lines); e != nil {
		return e
	}
	return out.Failed(err)
}

// noSuchPackage is a line such as "  hello (no such package):", which tells what needs it in the lines below.
var noSuchPackage = regexp.MustCompile(`^\s*(\S+) \(no such package\):`)

// missing is the error for packages that no repository has, or that another one needs.
func (s *Session) missing(lines []string, wanted []description.Package) error {
	var found description.Errors
	for i, text := range lines {
		m := noSuchPackage.FindStringSubmatch(text)
		if m == nil {
			continue
		}
		name := m[1]
		// The next lines are more indented: "    required by: world[hello]", or NAME-VERSION[hello].
		by := ""
		for _, below := range lines[i+1:] {
			if noSuchPackage.MatchString(below) || !strings.HasPrefix(below, "    ") {
				break
			}
			by += strings.Replace(below, "required by:", "", 1) + " "
		}
		if at := slices.IndexFunc(wanted, func(p description.Package) bool { return p.Name == name }); at >= 0 || strings.Contains(by, "world[") {
			origin := description.Origin{}
			if at >= 0 {
				origin = wanted[at].Origin
			}
			hint := description.DidYouMean(name, s.known(), "check its name; the repositories are: "+strings.Join(s.Repositories.Names(), ", "))
			found = append(found, origin.Errorf("", hint, "no repository has the package %s", name))
			continue
		}
		who, _, _ := strings.Cut(strings.TrimSpace(by), "[")
		origin := description.Origin{}
		if at := slices.IndexFunc(wanted, func(p description.Package) bool { return strings.HasPrefix(who, p.Name+"-") }); at >= 0 {
			origin = wanted[at].Origin
		}
		found = append(found, origin.Errorf("", "add the repository that has it", "the package %s needs %s, which no repository has", who, name))
	}
	if len(found) == 0 {
		return nil
	}
	return found
}

// known are the names of all packages, for suggestions.
func (s *Session) known() []string {
	var names []string
	for _, p := range s.index {
		names = append(names, p.Name)
	}
	return slices.Compact(slices.Sorted(slices.Values(names)))
}

// cause is a kind of failure and the words of apk that tell it.
type cause struct {
	text, hint string
	signs      []string
}

func causes() []cause {
	return []cause{
		{"there is no space left", "", []string{"No space left on device"}},
		{
			"a signature can't be verified", `add <signing key="..."/> with the right key (the .rsa.pub file of /etc/apk/keys) to the repository, or package_gpgcheck="false" to trust it without a signature`,
			[]string{"UNTRUSTED signature", "BAD signature"},
		},
		{"it refuses access", "give the right username and password to the repository", []string{"Permission denied", "Unauthorized", "Forbidden"}},
		{
			"it can't be read", "check its address: apk adds the architecture and APKINDEX.tar.gz to it",
			[]string{
				"fetching ", "opening ", "updating ", "Ignoring ", "ERROR: http", "ERROR: ftp", "ERROR: file:", "network error", "network connection", "DNS error", "could not connect", "IO ERROR", "unexpected end of file",
				"remote server returned error", "package mentioned in index not found", "could not find a repo", "integrity error",
			},
		},
	}
}

// unread is the error for what apk only warns of when it reads a repository, or nil.
func (s *Session) unread(lines []string) error {
	for _, cause := range causes() {
		for _, text := range lines {
			if !strings.HasPrefix(text, "WARNING: ") && !strings.HasPrefix(text, "ERROR: ") || !slices.ContainsFunc(cause.signs, func(sign string) bool { return strings.Contains(text, sign) }) {
				continue
			}
			detail := strings.TrimPrefix(strings.TrimPrefix(text, "WARNING: "), "ERROR: ")
			if cause.hint == "" {
				return fmt.Errorf("%s: %s", cause.text, detail)
			}
			if r, ok := s.Repositories.Concerned(detail); ok {
				return r.Errorf(cause.hint, "repository %s: %s: %s", r, cause.text, detail)
			}
			return fmt.Errorf("%s: %s; %s", cause.text, detail, cause.hint)
		}
	}
	return nil
}
