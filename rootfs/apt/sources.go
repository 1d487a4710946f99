package apt

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"strings"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/rootfs/packages"
	"github.com/imgbuild/imgbuild/rootfs/repositories"
)

// sources are the repositories of a session in the form that apt reads.
type sources struct {
	own         bool // the tree's own sources, because the description has none
	trusted     bool // the keys in trustedDir count, in the tree too
	files       []sourceFile
	preferences string
	auth        string // for apt_auth.conf(5)
}

// sourceFile is one repository as a file of sources.list.d.
type sourceFile struct {
	name       string
	alias      string
	data, keys []byte
	local      bool // a directory of this machine
	bootstrap  bool // use_for_bootstrap
}

// keyPath is where apt finds the keys of the repository, in memory.
func (f sourceFile) keyPath() string { return keyPath(f.alias) }

func keyPath(alias string) string { return insideConf + "/keys/" + alias + ".gpg" }

// findSources writes the repositories as apt reads them.
func (s *session) findSources(ctx context.Context, p place) (sources, error) {
	out := sources{own: len(s.Repositories.List) == 0}
	if out.own {
		if p != inside {
			return sources{}, s.Image.Errorf("repository", "add a <repository type=\"apt-deb\" distribution=\"...\"> to the description, or give one with --add-repo", "there is no repository that the packages can come from")
		}
		s.Log.Info("the description has no repositories: packages come from those of the root tree's /etc/apt")
		return out, nil
	}
	for i, r := range s.Repositories.List {
		f, pin, err := s.source(ctx, p, r)
		if err != nil {
			return sources{}, err
		}
		f.name = fmt.Sprintf("%03d-%s.sources", i, r.Alias)
		out.files = append(out.files, f)
		out.preferences += pin
		if r.User == "" && r.Password == "" {
			continue
		}
		if strings.ContainsAny(r.User+r.Password, " \t\r\n") {
			return sources{}, r.Description.Errorf("password", "", "a user name or password with blanks can't be handed to apt (netrc(5) has no way to quote them)")
		}
		out.auth += fmt.Sprintf("machine %s login %s password %s\n", strings.TrimSuffix(r.URI, "/"), r.User, r.Password)
	}
	return out, nil
}

// source makes the file of one repository, and its priority.
func (s *session) source(ctx context.Context, p place, r repositories.Repository) (f sourceFile, pinned string, err error) {
	d := r.Description
	if d.Distribution == "" && len(d.Components) > 0 {
		s.Log.Warn("a repository without a distribution has no components: they are left out", "at", d.Pos.String(), "repository", r.String())
	}
	address := r.URI
	if r.IsList() {
		mirrors, err := r.Mirrors(ctx, map[string]string{"basearch": s.Arch})
		if err != nil {
			return f, "", err
		}
		address = mirrors[0]
	}
	plain := false
	if d.Type == "deb-dir" {
		if address, plain, err = s.index(ctx, r); err != nil {
			return f, "", err
		}
	}
	f = sourceFile{alias: r.Alias, keys: r.Keys, local: r.Local != "", bootstrap: d.UseForBootstrap}
	signedBy := ""
	if r.Keys != nil {
		signedBy = keyPath(r.Alias)
	}
	customize := func(name, text string) (string, error) {
		run := s.Outside
		if p == inside {
			run = s.Inside
		}
		data, err := r.Customize(ctx, repositories.CustomizeOptions{Files: s.Files, Run: run, Workdir: s.dir, Name: name, Data: []byte(text)})
		return string(data), err
	}
	text, err := customize(r.Alias+".sources", deb822(d, address, signedBy, plain || d.RepoGPGCheck == description.False))
	if err != nil {
		return f, "", err
	}
	f.data = []byte(text)
	if pinned = pin(d, address); pinned != "" {
		pinned, err = customize(r.Alias+".pref", pinned)
	}
	return f, pinned, err
}

// deb822 is a repository in the form of sources.list(5). signedBy is the path of a keyring, or "" for the system's keys.
func deb822(d description.Repository, address, signedBy string, trusted bool) string {
	var text strings.Builder
	fmt.Fprintf(&text, "Types: deb\nURIs: %s\n", address)
	if d.Distribution == "" {
		text.WriteString("Suites: ./\n")
	} else {
		fmt.Fprintf(&text, "Suites: %s\n", d.Distribution)
		if !strings.HasSuffix(d.Distribution, "/") {
			fmt.Fprintf(&text, "Components: %s\n", cmp.Or(strings.Join(d.Components, " "), "main"))
		}
	}
	if trusted {
		text.WriteString("Trusted: yes\nCheck-Valid-Until: no\n")
	}
	if signedBy != "" {
		fmt.Fprintf(&text, "Signed-By: %s\n", signedBy)
	}
	return text.String()
}

// pin is a repository's priority in the form of apt_preferences(5). All of one host share it, as in KIWI.
func pin(d description.Repository, address string) string {
	if d.Priority == 0 {
		return ""
	}
	host := ""
	if u, err := url.Parse(address); err == nil {
		host = u.Hostname()
	}
	return fmt.Sprintf("Package: *\nPin: origin \"%s\"\nPin-Priority: %d\n\n", host, d.Priority)
}

// WriteRepositories writes into a tree the repositories that the image itself is to have. Their keys go to /etc/apt/keyrings. Secrets stay out of the image, and
// so do repositories that only this machine can read; the notes say so.
func WriteRepositories(edit *layers.Editor, set *repositories.Set, change repositories.Change) (notes []string, err error) {
	return set.ForImage("/etc/apt/auth.conf.d", func(r repositories.Repository) ([]string, error) { return nil, writeRepository(edit, r, change) })
}

func writeRepository(edit *layers.Editor, r repositories.Repository, change repositories.Change) error {
	signedBy := ""
	if r.Keys != nil {
		name := "etc/apt/keyrings/" + r.Alias + ".gpg"
		if err := edit.WriteFile(name, r.Keys, 0o644); err != nil {
			return err
		}
		signedBy = "/" + name
	}
	address := r.URI
	switch r.Description.SourceType {
	case "mirrorlist":
		address = "mirror+" + address // apt-transport-mirror(1)
	}
	own := func(dir, name, text string) error {
		if text == "" {
			return nil
		}
		data, err := change(r, name, []byte(text))
		if err != nil {
			return err
		}
		return edit.WriteFile(dir+name, data, 0o644)
	}
	text := deb822(r.Description, address, signedBy, r.Description.RepoGPGCheck == description.False)
	if err := own("etc/apt/sources.list.d/", r.Alias+".sources", text); err != nil {
		return err
	}
	return own("etc/apt/preferences.d/", r.Alias+".pref", pin(r.Description, address))
}

// listed marks what the description names.
func listed(list []description.Package, found []packages.Package) {
	names := map[string]bool{}
	for _, p := range list {
		name, _, _ := strings.Cut(p.Name, "=")
		name, _, _ = strings.Cut(name, "/")
		name, _, _ = strings.Cut(name, ":")
		names[name] = true
	}
	for i := range found {
		found[i].Listed = names[found[i].Name]
	}
}
