package description

import (
	"fmt"
	"sort"
	"strconv"
	"strings"
)

// Overrides are changes that a user makes to a description for one build,
// without editing it. Their order is that of the fields.
type Overrides struct {
	IgnoreRepos bool // leave out all repositories of the description
	// IgnoreReposUsedForBuild leaves out those that the build would use; the
	// ones that are set up in the image alone stay.
	IgnoreReposUsedForBuild bool
	SetRepo                 *Repository // replaces the first repository
	AddRepos                []Repository
	SigningKeys             []string // paths or URIs of public keys, for all repositories
	AddPackages             []string
	AddBootstrapPackages    []string
	DeletePackages          []string
	DerivedFrom             []string // containers only
	ContainerTag            string   // containers only
	ContainerLabels         map[string]string
	// TypeAttributes are attributes of the selected type, by name.
	TypeAttributes map[string]string
	ReleaseVersion string // of the distribution
}

// commandLine is the position of what a user added to a description.
var commandLine = Position{File: "command line"}

// With returns the image that the changed description describes.
func (img *Image) With(o Overrides) (*Image, error) {
	doc := *img.doc
	doc.root = img.doc.root.clone()
	r := &resolver{doc: &doc, arch: img.Arch, active: map[string]bool{}}
	r.selectProfiles(img.selection.Profiles)
	r.selectType(img.selection.Type)
	if err := r.errors.err(); err != nil {
		return nil, err
	}
	o.changeRepositories(r)
	for kind, names := range map[string][]string{
		"image": o.AddPackages, "bootstrap": o.AddBootstrapPackages, "delete": o.DeletePackages,
	} {
		addPackages(doc.root, kind, names)
	}
	if err := o.changeContainer(r.typ); err != nil {
		return nil, err
	}
	for name, value := range o.TypeAttributes {
		r.typ.setAttr(name, value, commandLine)
	}
	if preferences := r.sections("preferences"); o.ReleaseVersion != "" && len(preferences) > 0 {
		for _, p := range preferences {
			p.dropChildren("release-version")
		}
		preferences[0].childOrNew("release-version").setText(o.ReleaseVersion)
	}
	errs, _ := validate(doc.root, doc.version)
	if err := errs.err(); err != nil {
		return nil, err
	}
	return doc.Resolve(img.selection)
}

func (o *Overrides) changeRepositories(r *resolver) {
	root := r.doc.root
	dropped := map[*element]bool{}
	for _, e := range root.elements("repository") {
		only, _ := e.attr("imageonly")
		if imageOnly, _ := parseBool(collapse(only)); o.IgnoreRepos || o.IgnoreReposUsedForBuild && !imageOnly {
			dropped[e] = true
		}
	}
	kept := root.children[:0]
	for _, c := range root.children {
		if !dropped[c.elem] || c.elem == nil {
			kept = append(kept, c)
		}
	}
	root.children = kept
	if o.SetRepo != nil {
		if first := r.sections("repository"); len(first) > 0 {
			*first[0] = *o.SetRepo.element()
		} else {
			root.children = append(root.children, node{elem: o.SetRepo.element()})
		}
	}
	for i := range o.AddRepos {
		root.children = append(root.children, node{elem: o.AddRepos[i].element()})
	}
	for _, repo := range r.sections("repository") {
		if source := repo.child("source"); source != nil {
			for _, key := range o.SigningKeys {
				addKey(source, key)
			}
		}
	}
}

// addKey adds a signing key to a source; a relative path is one of the
// description, as everywhere in it.
func addKey(source *element, key string) {
	signing := &element{name: "signing", pos: commandLine}
	signing.setAttr("key", key, commandLine)
	source.children = append(source.children, node{elem: signing})
}

// element writes a repository as an element of a description.
func (r *Repository) element() *element {
	pos := r.Pos
	if pos.IsZero() {
		pos = commandLine
	}
	e := &element{name: "repository", pos: pos}
	for _, a := range []struct{ name, value string }{
		{"type", r.Type}, {"alias", r.Alias}, {"username", r.Username}, {"password", r.Password},
		{"components", strings.Join(r.Components, " ")}, {"distribution", r.Distribution},
		{"sourcetype", r.SourceType}, {"customize", r.Customize}, {"architectures", strings.Join(r.Architectures, ",")},
		{"package_gpgcheck", r.PackageGPGCheck.String()}, {"repository_gpgcheck", r.RepoGPGCheck.String()},
	} {
		if a.value != "" {
			e.setAttr(a.name, a.value, pos)
		}
	}
	if r.Priority != 0 {
		e.setAttr("priority", strconv.Itoa(r.Priority), pos)
	}
	for _, a := range []struct {
		name string
		set  bool
	}{{"imageinclude", r.ImageInclude}, {"imageonly", r.ImageOnly}, {"use_for_bootstrap", r.UseForBootstrap}} {
		if a.set {
			e.setAttr(a.name, "true", pos)
		}
	}
	source := &element{name: "source", pos: pos}
	source.setAttr("path", r.Source, pos)
	for _, key := range r.SigningKeys {
		addKey(source, key.URI)
	}
	e.children = []node{{elem: source}}
	return e
}

func addPackages(root *element, kind string, names []string) {
	if len(names) == 0 {
		return
	}
	section := &element{name: "packages", pos: commandLine}
	section.setAttr("type", kind, commandLine)
	for _, name := range names {
		p := &element{name: "package", pos: commandLine}
		p.setAttr("name", name, commandLine)
		section.children = append(section.children, node{elem: p})
	}
	root.children = append(root.children, node{elem: section})
}

// changeContainer changes the type's container.
func (o *Overrides) changeContainer(typ *element) error {
	if len(o.DerivedFrom) == 0 && o.ContainerTag == "" && len(o.ContainerLabels) == 0 {
		return nil
	}
	if image, _ := typ.attr("image"); !forTypes(onContainer, collapse(image)) {
		return problem(commandLine, "choose a type docker or oci", "settings of a container have no meaning for the image type %s", collapse(image))
	}
	if len(o.DerivedFrom) > 0 {
		typ.setAttr("derived_from", strings.Join(o.DerivedFrom, ","), commandLine)
	}
	if o.ContainerTag == "" && len(o.ContainerLabels) == 0 {
		return nil
	}
	config := typ.childOrNew("containerconfig")
	if _, ok := config.attr("name"); !ok {
		config.setAttr("name", "system-container", commandLine)
	}
	if o.ContainerTag != "" {
		config.setAttr("tag", o.ContainerTag, commandLine)
	}
	names := make([]string, 0, len(o.ContainerLabels))
	for name := range o.ContainerLabels {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		setLabel(config.childOrNew("labels"), name, o.ContainerLabels[name])
	}
	return nil
}

func setLabel(labels *element, name, value string) {
	for _, l := range labels.elements("label") {
		if n, _ := l.attr("name"); n == name {
			l.setAttr("value", value, commandLine)
			return
		}
	}
	l := &element{name: "label", pos: commandLine}
	l.setAttr("name", name, commandLine)
	l.setAttr("value", value, commandLine)
	labels.children = append(labels.children, node{elem: l})
}

// childOrNew returns the first child element of a name, made when missing.
func (e *element) childOrNew(name string) *element {
	if c := e.child(name); c != nil {
		return c
	}
	c := &element{name: name, pos: commandLine}
	e.children = append(e.children, node{elem: c})
	return c
}

// ParseRepository reads a repository as a command line gives it: values with
// commas between, of which those at the end, and empty ones, may be missing.
//
//	source,type,alias,priority,imageinclude,package_gpgcheck,{key1;key2},components,distribution,repo_gpgcheck,sourcetype
//
// Components have blanks between them.
func ParseRepository(spec string) (Repository, error) {
	r := Repository{Origin: Origin{Pos: commandLine}, SourcePos: commandLine}
	fields := strings.Split(spec, ",")
	const most = 11
	if len(fields) > most {
		return r, fmt.Errorf("reading repository %q: it has %d values and can have %d", withoutCredentials(spec), len(fields), most)
	}
	for len(fields) < most {
		fields = append(fields, "")
	}
	for i := range fields {
		fields[i] = strings.TrimSpace(fields[i])
	}
	r.Source, r.Type, r.Alias, r.Distribution, r.SourceType = fields[0], fields[1], fields[2], fields[8], fields[10]
	r.Components = strings.Fields(fields[7])
	if r.Source == "" {
		return r, fmt.Errorf("reading repository %q: it has no source", spec)
	}
	if fields[3] != "" {
		n, err := strconv.Atoi(fields[3])
		if err != nil {
			return r, fmt.Errorf("reading repository %q: priority %q is not a number", withoutCredentials(spec), fields[3])
		}
		r.Priority = n
	}
	for _, f := range []struct {
		name, value string
		set         func(Tristate)
	}{
		{"imageinclude", fields[4], func(t Tristate) { r.ImageInclude = t == True }},
		{"package_gpgcheck", fields[5], func(t Tristate) { r.PackageGPGCheck = t }},
		{"repo_gpgcheck", fields[9], func(t Tristate) { r.RepoGPGCheck = t }},
	} {
		if f.value == "" {
			continue
		}
		b, ok := parseBool(f.value)
		if !ok {
			return r, fmt.Errorf("reading repository %q: %s %q is neither true nor false", withoutCredentials(spec), f.name, f.value)
		}
		f.set(tristate(b))
	}
	for _, key := range strings.Split(strings.Trim(fields[6], "{}"), ";") {
		if key = strings.TrimSpace(key); key != "" {
			r.SigningKeys = append(r.SigningKeys, SigningKey{Origin: Origin{Pos: commandLine}, URI: key})
		}
	}
	return r, nil
}

// XML returns the description that the image was made from, as it is kept in a
// root tree: upgraded, with its includes and overrides, and without the
// credentials of repositories.
func (img *Image) XML() []byte { return img.withoutSecrets().XML() }

// withoutSecrets returns the document without the credentials of repositories.
func (img *Image) withoutSecrets() *Document {
	doc := *img.doc
	doc.root = img.doc.root.clone()
	for _, e := range doc.root.elements("repository") {
		e.dropAttr("username", "password")
		for _, source := range e.elements("source") {
			if path, ok := source.attr("path"); ok {
				source.setAttr("path", withoutCredentials(path), source.pos)
			}
		}
	}
	return &doc
}

// withoutCredentials takes user:password@ out of a URL.
func withoutCredentials(source string) string {
	scheme, rest, ok := strings.Cut(source, "://")
	if !ok {
		return source
	}
	end := strings.IndexByte(rest, '/')
	if end < 0 {
		end = len(rest)
	}
	if at := strings.LastIndexByte(rest[:end], '@'); at >= 0 {
		rest = rest[at+1:]
	}
	return scheme + "://" + rest
}
