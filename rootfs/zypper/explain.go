package zypper

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/internal/command"
	"github.com/imgbuild/imgbuild/rootfs/packages"
	"github.com/imgbuild/imgbuild/rootfs/rpm"
)

// explain turns the failure of zypper into an error that names the place in the description and the way out.
func (s *Session) explain(ctx context.Context, err error, out *packages.Output, set description.PackageSet) error {
	var exit *command.ExitError
	if err == nil || ctx.Err() != nil || !errors.As(err, &exit) || exit.Signal != "" {
		return err
	}
	lines := out.Lines()
	if e := s.missingPackages(lines, set); e != nil {
		return e
	}
	for _, c := range s.causes() {
		for _, sign := range c.signs {
			line := firstWith(lines, sign)
			if _, rest, ok := strings.Cut(line, " - ["); ok { // [ALIAS|ADDRESS] before the message
				_, line, _ = strings.Cut(rest, "] ")
			}
			detail := strings.TrimSpace(strings.TrimPrefix(line, bullet))
			if detail == "" {
				continue
			}
			if !c.repository {
				return fmt.Errorf("%s: %s", c.text, detail)
			}
			if s.Repositories != nil {
				if r, ok := s.Repositories.Concerned(detail, firstWith(lines, "' is invalid"), strings.Join(lines, "\n")); ok {
					return r.Errorf(c.hint, "repository %s: %s: %s", r, c.text, detail)
				}
			}
			return fmt.Errorf("a repository: %s: %s; %s", c.text, detail, c.hint)
		}
	}
	if problems := problems(lines); problems != "" {
		if s.Locked != nil && strings.Contains(problems, "remove lock to allow") {
			return fmt.Errorf("the packages of the lock file don't fit together, or the repositories don't have them any more: %s: %w", problems, packages.ErrNotLocked)
		}
		return fmt.Errorf("the packages don't fit together: %s", problems)
	}
	return out.Failed(err)
}

// cause is a kind of failure and the words of zypper that tell it.
type cause struct {
	text, hint string
	repository bool // it is about one
	signs      []string
}

func (s *Session) causes() []cause {
	return []cause{
		{text: "there is no space left", signs: []string{"No space left on device", "not enough space", "needs additional disk space", "Not enough free disk space", "more space needed", "more space on the", "inodes on the"}},
		{
			text: "the signature of a package can't be verified", hint: `add the right <signing key="..."/> to the repository, or package_gpgcheck="false" to trust packages without a signature`,
			repository: true, signs: []string{"Signature verification failed [", "Package header is not signed", "Package is not signed"},
		},
		{
			text: "its signature can't be verified", hint: `add <signing key="..."/> to the repository, or repository_gpgcheck="false" to trust it without a signature`, repository: true,
			signs: []string{"Signature verification failed for ", "is signed with an unknown key", "File 'repomd.xml' from repository", "is not signed"},
		},
		{text: "it refuses access", hint: "give the right username and password to the repository", repository: true, signs: []string{"Login failed", "returned error: 401", "returned error: 403", "Authentication required"}},
		{
			text: "it can't be read", hint: `check its address; a plain directory of packages needs type="rpm-dir"`, repository: true,
			signs: []string{
				"Error message: ", "Error code: ", "Timeout exceeded", bullet, "not found on medium", "Valid metadata not found", "Can't provide", "Failed to provide Package", "Failed to provide file", "Error trying to read from", "Digest verification failed",
				"has an invalid checksum", "Failed to retrieve new repository metadata", "Media source",
			},
		},
		{text: "a package does not install", signs: []string{"error: %", "unpacking of archive failed", "conflicts with file from", "Subprocess failed", "Installation of "}},
	}
}

// bullet is what lines of a history of failures begin with. Tables of sizes have it too, further on.
const bullet = " - "

// firstWith returns the first line that has the sign.
func firstWith(lines []string, sign string) string {
	for _, line := range lines {
		if strings.Contains(line, sign) && (sign != bullet || strings.HasPrefix(line, bullet)) {
			return line
		}
	}
	return ""
}

// problems are what zypper says of dependencies that can't be met: "Problem: ..." and, where that alone does not tell, the first solution.
func problems(lines []string) string {
	var parts []string
	for i, line := range lines {
		_, text, ok := strings.Cut(line, "Problem: ")
		if !ok || slices.Contains(parts, text) {
			continue
		}
		if next := strings.TrimSpace(append(lines, "")[i+1]); strings.HasPrefix(next, "not installable providers: ") {
			text += " (" + next + ")"
		}
		if strings.HasSuffix(text, "Detailed information:") { // of libzypp 17.37 and newer
			var details []string
			for _, line := range lines[i+1:] {
				detail, ok := strings.CutPrefix(line, "- ")
				if !ok {
					break
				}
				details = append(details, detail)
			}
			text = strings.Join(details, ", ")
		}
		parts = append(parts, text)
	}
	if lock := firstWith(lines, "remove lock to allow"); lock != "" && len(parts) > 0 {
		_, lock, _ = strings.Cut(lock, ": ")
		parts = append(parts, lock)
	}
	return strings.Join(parts, "; ")
}

// missingPackages is the error for packages, patterns and products that no repository has.
func (s *Session) missingPackages(lines []string, set description.PackageSet) error {
	var found description.Errors
	var names []string // of all packages
	for _, line := range lines {
		_, rest, ok := strings.Cut(line, "No provider of '")
		spec, _, ended := strings.Cut(rest, "' found")
		if !ok || !ended {
			continue
		}
		what, p := s.named(spec, set)
		hint := "check its name; the repositories are: " + strings.Join(s.repositories(), ", ")
		if what == "package" {
			if names == nil {
				names = s.names()
			}
			hint = description.DidYouMean(p.Name, names, hint)
		}
		found = append(found, p.Errorf("", hint, "no repository has the %s %s", what, p.Name))
	}
	if len(found) == 0 {
		return nil
	}
	return found
}

// named finds what of a set zypper was asked for by these words.
func (s *Session) named(spec string, set description.PackageSet) (what string, p description.Package) {
	for _, kind := range []struct {
		what string
		list []description.Package
		spec func(name string) string
	}{
		{"package", set.Packages, func(name string) string { return name }}, {"pattern", set.Collections, patternSpec}, {"product", set.Products, productSpec},
	} {
		for _, p := range kind.list {
			if kind.spec(p.Name) == spec {
				return kind.what, p
			}
		}
	}
	return "package", description.Package{Origin: s.Image.Origin, Name: spec}
}

// names are the names of all packages that the repositories list.
func (s *Session) names() []string {
	names := []string{}
	err := s.eachAvailable(func(_ string, a rpm.Available) { names = append(names, a.Name) })
	if err != nil {
		s.Log.Debug("there is no suggestion for a package's name", "error", err)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// repositories names where packages were looked for.
func (s *Session) repositories() []string {
	if s.Own() {
		return []string{"those of the root tree's /etc/zypp/repos.d"}
	}
	return s.Repositories.Names()
}
