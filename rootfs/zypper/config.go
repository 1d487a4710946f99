package zypper

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/rootfs/repositories"
	"github.com/imgbuild/imgbuild/rootfs/sandbox"
)

// configuration is zypp.conf: what the tree's own says, but for the settings of the build.
func (s *Session) configuration(p place, set description.PackageSet) []byte {
	settings := [][2]string{
		{"solver.onlyRequires", word(!set.PlusRecommended)},
		{"rpm.install.excludedocs", word(s.Image.RPM.ExcludeDocs)},
		{"credentials.global.dir", secretsDir},
		{"credentials.global.file", secretsDir + "/none"},
		{"locksfile.path", locksFile},
		// The root directory comes before this path, so that it is in the sandbox's memory.
		{"history.logfile", "/tmp/zypp-history"},
		{"commit.downloadMode", "DownloadInAdvance"},
		{"commit.psCheckAccessDeleted", "no"},
		{"download.use_deltarpm", "false"},
		{"download.transfer_timeout", "60"},
		{"repo.refresh.delay", "0"},
	}
	if p.arch != "" {
		settings = append(settings, [2]string{"arch", p.arch})
	}
	var text strings.Builder
	text.WriteString("[main]\n")
	for line := range strings.Lines(string(p.config)) {
		name, _, isSetting := strings.Cut(line, "=")
		name = strings.TrimSpace(name)
		if isSetting && !strings.HasPrefix(name, "#") && !slices.ContainsFunc(settings, func(o [2]string) bool { return o[0] == name }) {
			text.WriteString(strings.TrimSpace(line) + "\n")
		}
	}
	for _, setting := range settings {
		fmt.Fprintf(&text, "%s = %s\n", setting[0], setting[1])
	}
	return []byte(text.String())
}

func word(yes bool) string {
	if yes {
		return "true"
	}
	return "false"
}

// locks is the file of what zypper must not install: the ignored packages, and of those in the lock every other version.
func (s *Session) locks(set description.PackageSet) []byte {
	var text strings.Builder
	add := func(name, version string) {
		fmt.Fprintf(&text, "\ntype: package\nmatch_type: glob\ncase_sensitive: on\nsolvable_name: %s\n", name)
		if version != "" {
			fmt.Fprintf(&text, "version: %s\n", version)
		}
		text.WriteString("\n")
	}
	for _, p := range set.Ignore {
		add(p.Name, "")
	}
	versions := map[string]string{} // "" where there are several, as of kernels
	for _, p := range s.Locked {
		if known, ok := versions[p.Name]; ok && known != p.Version {
			versions[p.Name] = ""
			continue
		}
		versions[p.Name] = p.Version
	}
	for _, name := range slices.Sorted(maps.Keys(versions)) {
		if version := versions[name]; version != "" {
			add(name, "< "+version)
			add(name, "> "+version)
		}
	}
	return []byte(text.String())
}

// sectionOptions say how a repository is written.
type sectionOptions struct {
	addresses       []string
	key             string // file of its public keys, "" for none
	checkSignatures bool   // where the repository says nothing of it
	keep            bool   // for the build: downloaded packages are kept, and lists fetched when it says so
}

// section is a repository as a .repo file has it.
func section(r repositories.Repository, opts sectionOptions) []byte {
	d := r.Description
	var text strings.Builder
	address := "baseurl"
	if r.IsList() && opts.addresses == nil {
		address, opts.addresses = d.SourceType, []string{r.URI}
	}
	fmt.Fprintf(&text, "[%s]\nname=%s\nenabled=1\nautorefresh=%s\n%s=%s\n", r.Alias, r.Alias, digit(!opts.keep), address, strings.Join(opts.addresses, "\n        "))
	if d.Type == "rpm-dir" {
		text.WriteString("type=plaindir\n")
	} else {
		text.WriteString("type=rpm-md\n")
	}
	fmt.Fprintf(&text, "priority=%d\n", cmp.Or(d.Priority, defaultPriority))
	// gpgcheck alone would trust unsigned packages of a signed index.
	index, packages := d.RepoGPGCheck.Or(opts.checkSignatures), d.PackageGPGCheck.Or(opts.checkSignatures)
	fmt.Fprintf(&text, "keeppackages=%s\ngpgcheck=%s\nrepo_gpgcheck=%s\npkg_gpgcheck=%s\n", digit(opts.keep), digit(index || packages), digit(index), digit(packages))
	if opts.key != "" {
		fmt.Fprintf(&text, "gpgkey=file://%s\n", opts.key)
	}
	return []byte(text.String())
}

// defaultPriority is that of a repository that names none.
const defaultPriority = 99

func digit(yes bool) string {
	if yes {
		return "1"
	}
	return "0"
}

// repositoryFiles are the .repo files of the session, made when they are first needed, and the credentials.
func (s *Session) repositoryFiles(ctx context.Context, p place) ([]sandbox.File, error) {
	if s.repoFiles != nil || s.Own() {
		return s.repoFiles, nil
	}
	var all []sandbox.File
	for _, r := range s.Repositories.List {
		addresses, err := s.addresses(ctx, r)
		if err != nil {
			return nil, err
		}
		if r.User != "" || r.Password != "" {
			if strings.ContainsAny(r.User+r.Password, "\r\n") || r.User != strings.TrimSpace(r.User) || r.Password != strings.TrimSpace(r.Password) {
				return nil, r.Description.Errorf("password", "", "a user name or password with line breaks, or with blanks at its ends, can't be handed to zypper")
			}
			file := secretsDir + "/" + r.Alias
			all = append(all, sandbox.File{Path: file, Data: []byte("username = " + r.User + "\npassword = " + r.Password + "\n"), Perm: 0o600})
			for i, address := range addresses {
				separator := "?"
				if strings.Contains(address, "?") {
					separator = "&"
				}
				addresses[i] = address + separator + "credentials=" + file
			}
		}
		data, err := r.Customize(ctx, repositories.CustomizeOptions{
			Files: s.Files, Run: p.run, Workdir: s.Dir, Name: r.Alias + ".repo",
			Data: section(r, sectionOptions{addresses: addresses, key: r.KeyFile, checkSignatures: s.Image.RPM.CheckSignatures, keep: true}),
		})
		if err != nil {
			return nil, err
		}
		all = append(all, sandbox.File{Path: reposDir + "/" + r.Alias + ".repo", Data: data, Perm: 0o644})
	}
	s.repoFiles = all
	return all, nil
}

// mostMirrors is how many of a list's mirrors zypper is told.
const mostMirrors = 5

// addresses are where the repository is. Lists of mirrors are read here: zypper knows only some kinds of them.
func (s *Session) addresses(ctx context.Context, r repositories.Repository) ([]string, error) {
	if !r.IsList() {
		return []string{r.URI}, nil
	}
	if s.Offline {
		return []string{r.URI}, nil // the cache has what it gave
	}
	mirrors, err := r.Mirrors(ctx, map[string]string{"basearch": s.Arch, "arch": s.Arch, "releasever": s.Image.ReleaseVersion})
	if err != nil {
		return nil, err
	}
	return mirrors[:min(len(mirrors), mostMirrors)], nil
}
