package dnf

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/internal/command"
	"github.com/imgbuild/imgbuild/rootfs/packages"
)

// explain turns the failure of dnf into an error that names the place in the description and the way out.
func (s *Session) explain(ctx context.Context, t tool, err error, out *packages.Output, set description.PackageSet) error {
	var exit *command.ExitError
	if out == nil || ctx.Err() != nil || !errors.As(err, &exit) || exit.Signal != "" {
		return err
	}
	lines := out.Lines()
	if e := s.missingPackages(ctx, t, lines, set); e != nil {
		return e
	}
	for _, c := range s.causes() {
		detail := strings.TrimPrefix(strings.TrimSpace(firstWith(lines, c.signs...)), ">>> ") // dnf5's details of what it was doing
		if detail == "" {
			continue
		}
		if !c.repository {
			return fmt.Errorf("%s: %s%s", c.text, detail, semicolon(c.hint))
		}
		if s.Repositories != nil {
			if r, ok := s.Repositories.Concerned(detail, strings.Join(lines, "\n")); ok {
				return r.Errorf(c.hint, "repository %s: %s: %s", r, c.text, detail)
			}
		}
		return fmt.Errorf("a repository: %s: %s%s", c.text, detail, semicolon(c.hint))
	}
	if problems := problems(lines); problems != "" {
		return fmt.Errorf("the packages don't fit together: %s", problems)
	}
	return out.Failed(err)
}

func semicolon(hint string) string {
	if hint == "" {
		return ""
	}
	return "; " + hint
}

// cause is a kind of failure and the words of dnf4, dnf5 and microdnf that tell it.
type cause struct {
	text, hint string
	repository bool // it is about one
	signs      []string
}

func (s *Session) causes() []cause {
	unreadable := cause{
		text: "it can't be read", hint: `check its address; a plain directory of packages needs type="rpm-dir"`, repository: true,
		signs: []string{
			"Failed to download metadata for repo", "Cannot download repomd.xml", "Cannot prepare internal mirrorlist", "Failed to synchronize cache", "Cannot download", "All mirrors were tried", "Curl error",
			"Error downloading packages", "checksum doesn't match", "Status code: ", "cannot update repo",
		},
	}
	if s.Offline {
		unreadable.text, unreadable.hint = "it is not in the package cache", "build once without --offline, with the same --package-cache"
	}
	return []cause{
		{text: "there is no space left", signs: []string{"No space left on device", "more space on the", "more space needed on the", "inodes on the", "Disk Requirements"}},
		{
			text: "its signature can't be verified", hint: `add <signing key="..."/> to the repository, or repository_gpgcheck="false" to trust it without a signature`, repository: true,
			signs: []string{"GPG signature verification error", "repomd.xml GPG signature", "Signing key not found", "Bad GPG signature", "repomd.xml.asc", "OpenPGP signature verification"},
		},
		{
			text: "the signature of a package can't be verified", hint: `add the right <signing key="..."/> to the repository, or package_gpgcheck="false" to trust packages without a signature`, repository: true,
			signs: []string{
				"is not signed", "Public key for", "The GPG keys listed for", "GPG check FAILED", "GPG Keys are configured as", "is not correctly signed", "PGP check for package", "OpenPGP check for package", "gpgcheck is enabled",
			},
		},
		{text: "it refuses access", hint: "give the right username and password to the repository", repository: true, signs: []string{"Status code: 401", "Status code: 403", "error: 401", "error: 403"}},
		unreadable,
		{
			text: "a package does not install", signs: []string{"scriptlet failed, exit status", "unpacking of archive failed", "conflicts with file from package", "Error in PREIN scriptlet", "Transaction test error"},
		},
	}
}

// firstWith returns the first line that has one of the signs and is no mere headline.
func firstWith(lines []string, signs ...string) string {
	for _, line := range lines {
		for _, sign := range signs {
			if strings.Contains(line, sign) && !strings.HasSuffix(line, ":") {
				return line
			}
		}
	}
	return ""
}

// problems are what dnf says of dependencies that can't be met: "Problem: ..." and lines that begin with a dash.
func problems(lines []string) string {
	var parts []string
	for _, line := range lines {
		text := strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(text, "Problem"):
			_, text, _ = strings.Cut(text, ":")
			parts = append(parts, strings.TrimSpace(text))
		case strings.HasPrefix(text, "- ") && len(parts) > 0:
			parts = append(parts, strings.TrimPrefix(text, "- "))
		}
	}
	return strings.Join(parts, "; ")
}

// missingPackages is the error for packages and groups that no repository has.
func (s *Session) missingPackages(ctx context.Context, t tool, lines []string, set description.PackageSet) error {
	var found description.Errors
	var names []string // of all packages
	for _, name := range missingNames(lines) {
		group := strings.HasPrefix(name, "@")
		list, kind := set.Packages, "package"
		if group || slices.ContainsFunc(set.Collections, func(p description.Package) bool { return p.Name == name }) {
			list, kind = set.Collections, "group"
		}
		origin := s.Image.Origin
		for _, p := range list {
			if strings.TrimPrefix(p.Name, "@") == strings.TrimPrefix(name, "@") {
				origin = p.Origin
			}
		}
		hint := "check its name; the repositories are: " + strings.Join(s.repositories(), ", ")
		if kind == "package" {
			if names == nil {
				names = s.names(ctx, t)
			}
			hint = description.DidYouMean(name, names, hint)
		}
		text := "no repository has the " + kind
		if filtered := firstWith(lines, "filtered out by exclude filtering for argument: "+name, "Argument '"+name+"' matches only excluded"); filtered != "" && s.Locked != nil {
			text, hint = "the lock file, or its version in the repositories, lacks the "+kind, packages.ErrNotLocked.Error()
		}
		found = append(found, origin.Errorf("", hint, "%s %s", text, strings.TrimPrefix(name, "@")))
	}
	if len(found) == 0 {
		return nil
	}
	return found
}

// missingNames returns what dnf says that it can't find, each once.
func missingNames(lines []string) []string {
	var names []string
	add := func(name string) {
		if name = strings.Trim(name, " '\"."); name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	for _, line := range lines {
		for _, before := range []string{"No match for argument: ", "filtered out by exclude filtering for argument: ", "No package matches ", "No packages to remove for argument: "} {
			if _, rest, ok := strings.Cut(line, before); ok {
				add(rest)
			}
		}
		if rest, ok := strings.CutPrefix(line, "Argument '"); ok {
			if name, _, ok := strings.Cut(rest, "' matches only excluded packages"); ok {
				add(name)
			}
		}
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), "Module or Group '"); ok {
			if name, _, ok := strings.Cut(rest, "' is not available"); ok {
				add("@" + name)
			}
		}
	}
	return names
}

// names are the names of all packages that there are, nil if they can't be had.
func (s *Session) names(ctx context.Context, t tool) []string {
	var names []string
	_, err := s.run(ctx, t, request{command: []string{"repoquery", "--quiet", "--available", "--queryformat=%{name}\\n"}, noNetwork: true, line: func(line string) {
		if !strings.ContainsAny(line, " :") {
			names = append(names, line)
		}
	}})
	if err != nil {
		return nil // it is only for a suggestion
	}
	return names
}

// repositories names where packages were looked for.
func (s *Session) repositories() []string {
	if s.Own() {
		return []string{"those of the root tree's /etc/yum.repos.d"}
	}
	return s.Repositories.Names()
}
