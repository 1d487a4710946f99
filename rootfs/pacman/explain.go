package pacman

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/internal/command"
	"github.com/imgbuild/imgbuild/rootfs/packages"
	"github.com/imgbuild/imgbuild/rootfs/repositories"
)

// explain turns the failure of pacman into an error that names the place in the description and the way out.
func (s *Session) explain(err error, complaints *packages.Output, said []string, wanted []description.Package) error {
	var exit *command.ExitError
	if !errors.As(err, &exit) || exit.Signal != "" {
		return complaints.Failed(err)
	}
	lines := slices.Clone(complaints.Lines())
	if e := s.missingPackage(lines, wanted); e != nil {
		return e
	}
	if e := s.unresolved(said, wanted); e != nil {
		return e
	}
	for i, line := range lines {
		if strings.Contains(line, ".sig' from") && (strings.Contains(line, "404") || strings.Contains(line, "Couldn't open file") || strings.Contains(line, "Could not open file")) {
			lines[i] = strings.Replace(line, "failed retrieving file", "missing required signature, file", 1)
		}
	}
	for _, cause := range causes() {
		for _, sign := range cause.signs {
			i := slices.IndexFunc(lines, func(line string) bool { return strings.Contains(line, sign) })
			if i < 0 {
				continue
			}
			detail := strings.TrimPrefix(lines[i], "error: ")
			if cause.hint == "" {
				return fmt.Errorf("%s: %s", cause.text, detail)
			}
			if r, ok := s.concerned(lines, detail); ok {
				return r.Errorf(cause.hint, "repository %s: %s: %s", r, cause.text, detail)
			}
			return fmt.Errorf("%s: %s; %s", cause.text, detail, cause.hint)
		}
	}
	for _, line := range said {
		if strings.HasPrefix(line, ":: ") {
			_, _ = complaints.Write([]byte(line + "\n")) // conflicts are explained on standard output
		}
	}
	return complaints.Failed(err)
}

// cause is a kind of failure and the words of pacman that tell it.
type cause struct {
	text, hint string
	signs      []string
}

func causes() []cause {
	return []cause{
		{"there is no space left", "", []string{"No space left on device", "not enough free disk space"}},
		{"files can't be written; most likely there is no space left", "", []string{"(Write failed)"}},
		{
			"a signature can't be verified", `add <signing key="..."/> with the right key to the repository, or package_gpgcheck="false" or repository_gpgcheck="false" to trust it without a signature`,
			[]string{"is unknown trust", "is marginal trust", "missing required signature", "is invalid", "key \"", "required key missing", "(PGP signature)", "GPGME error", "signature format error"},
		},
		{"it refuses access", "give the right username and password to the repository", []string{"error: 401", "error: 403", "401 Unauthorized", "403 Forbidden"}},
		{
			"it can't be read", "check its address, and that its alias or components are the name of its database: NAME.db",
			[]string{
				"failed retrieving file", "failed to synchronize all databases", "failed to update", "invalid or corrupted", "could not open file", "Unrecognized archive format", "failed to download", "failed to retrieve some files",
			},
		},
	}
}

// missingPackage is the error for packages and groups that no repository has.
func (s *Session) missingPackage(lines []string, wanted []description.Package) error {
	var found description.Errors
	var known []string
	for _, line := range lines {
		name, ok := strings.CutPrefix(line, "error: target not found: ")
		if !ok {
			continue
		}
		if known == nil {
			known = s.names()
		}
		from := "those of the root tree's /etc/pacman.conf"
		if s.own == "" {
			from = strings.Join(s.Repositories.Names(), ", ")
		}
		hint := description.DidYouMean(name, known, "check its name; the repositories are: "+from)
		origin := description.Origin{}
		if i := slices.IndexFunc(wanted, func(p description.Package) bool { return p.Name == name }); i >= 0 {
			origin = wanted[i].Origin
		}
		found = append(found, origin.Errorf("", hint, "no repository has the package %s", name))
	}
	if len(found) == 0 {
		return nil
	}
	return found
}

// unresolved is the error for dependencies that are not met, or that are met by a package which is to be ignored only.
func (s *Session) unresolved(said []string, wanted []description.Package) error {
	const sign = ":: unable to satisfy dependency '"
	i := slices.IndexFunc(said, func(line string) bool { return strings.HasPrefix(line, sign) })
	if i < 0 {
		return nil
	}
	dependency, by, _ := strings.Cut(strings.TrimPrefix(said[i], sign), "' required by ")
	name := dependency
	if end := strings.IndexAny(name, "<>="); end >= 0 {
		name = name[:end]
	}
	for _, list := range [][]description.Package{s.Image.Packages.Bootstrap.Ignore, s.Image.Packages.System.Ignore} {
		for _, p := range list {
			if p.Name == name {
				return p.Errorf("", "take it out of the ignored packages, or leave out "+by, "the package %s is to be ignored, but %s needs it", name, by)
			}
		}
	}
	origin := description.Origin{}
	if i := slices.IndexFunc(wanted, func(p description.Package) bool { return p.Name == by }); i >= 0 {
		origin = wanted[i].Origin
	}
	return origin.Errorf("", "add the repository that has it", "the package %s needs %s, which no repository has", by, dependency)
}

// concerned finds the repository that pacman's words are about: by the name of its database or of one of its packages, or by its address.
func (s *Session) concerned(lines []string, detail string) (repositories.Repository, bool) {
	for _, text := range append([]string{detail}, lines...) {
		for _, sec := range s.sections {
			if strings.Contains(text, "'"+sec.name+".db") || strings.Contains(text, "failed to update "+sec.name+" ") || strings.Contains(text, "database '"+sec.name+"'") || strings.Contains(text, "error: "+sec.name+": ") {
				return sec.repo, true
			}
		}
		for _, l := range s.lists {
			for _, e := range l.packages {
				if strings.Contains(text, "'"+e.File) || strings.Contains(text, e.Name+": ") && strings.HasPrefix(strings.TrimPrefix(text, "error: "), e.Name+": ") {
					if i := slices.IndexFunc(s.sections, func(sec section) bool { return sec.name == l.name }); i >= 0 {
						return s.sections[i].repo, true
					}
				}
			}
		}
	}
	return s.Repositories.Concerned(detail, strings.Join(lines, "\n"))
}
