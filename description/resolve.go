package description

import (
	"fmt"
	"runtime"
	"strings"
)

// resolver makes the Image of one selection.
type resolver struct {
	doc      *Document
	arch     string
	profiles []string
	active   map[string]bool // the same profiles
	typ      *element
	errors   Errors
}

// Resolve makes the image that the selection describes. Everything about it
// that can't work is reported at once, as Errors.
func (d *Document) Resolve(sel Selection) (*Image, error) {
	r := &resolver{doc: d, arch: sel.Arch, active: map[string]bool{}}
	if r.arch == "" {
		r.arch = hostArch()
	}
	r.selectProfiles(sel.Profiles)
	if err := r.errors.err(); err != nil {
		return nil, err
	}
	r.selectType(sel.Type)
	if err := r.errors.err(); err != nil {
		return nil, err
	}
	img, err := r.image()
	if err != nil {
		return nil, err
	}
	img.doc, img.selection, img.types = d, sel, r.types()
	errs, warnings := check(img, sel.SkipChecks)
	if len(errs) > 0 {
		return nil, errs.sorted()
	}
	img.Warnings = warnings
	r.warnIdle(img)
	return img, nil
}

// ProfileNames returns all profiles of the description, in its order.
func (d *Document) ProfileNames() []string {
	var names []string
	for _, p := range d.profileElements() {
		name, _ := p.attr("name")
		names = append(names, name)
	}
	return names
}

// Name returns the name of the image.
func (d *Document) Name() string {
	name, _ := d.root.attr("name")
	return collapse(name)
}

func (d *Document) profileElements() []*element {
	var all []*element
	for _, section := range d.root.elements("profiles") {
		all = append(all, section.elements("profile")...)
	}
	return all
}

// hostArch returns the architecture of this machine as uname -m names it.
func hostArch() string {
	switch runtime.GOARCH {
	case "amd64":
		return "x86_64"
	case "arm64":
		return "aarch64"
	case "386":
		return "i686"
	case "arm":
		return "armv7l"
	}
	return runtime.GOARCH // ppc64le, s390x, riscv64
}

// archMatches reports whether an element counts on the architecture.
func (r *resolver) archMatches(e *element) bool {
	list, ok := e.attr("arch")
	if !ok || list == "" {
		return true
	}
	for _, name := range splitCommas(list) {
		if name == r.arch || canonicalArch(name) == canonicalArch(r.arch) {
			return true
		}
		if name == "ix86" && (r.arch == "i586" || r.arch == "i686") {
			return true
		}
	}
	return false
}

// canonicalArch turns Debian's names into those of uname.
func canonicalArch(name string) string {
	switch name {
	case "amd64":
		return "x86_64"
	case "arm64":
		return "aarch64"
	}
	return name
}

// matches reports whether an element counts for the profiles and the
// architecture.
func (r *resolver) matches(e *element) bool {
	list, ok := e.attr("profiles")
	if ok && list != "" {
		active := false
		for _, name := range splitCommas(list) {
			active = active || r.active[name]
		}
		if !active {
			return false
		}
	}
	return r.archMatches(e)
}

// sections returns the top-level elements of a name that count.
func (r *resolver) sections(name string) []*element {
	var found []*element
	for _, e := range r.doc.root.elements(name) {
		if r.matches(e) {
			found = append(found, e)
		}
	}
	return found
}

// selectProfiles finds the active profiles: those that were chosen, each with
// what it requires, or else those that are imported by default, as in KIWI
// without what they require.
func (r *resolver) selectProfiles(chosen []string) {
	known := map[string]*element{}
	for _, p := range r.doc.profileElements() {
		name, _ := p.attr("name")
		known[name] = p
	}
	if len(chosen) == 0 {
		for _, p := range r.doc.profileElements() {
			name, _ := p.attr("name")
			imported, _ := p.attr("import")
			if isTrue(imported) && r.archMatches(p) && !r.active[name] {
				r.active[name] = true
				r.profiles = append(r.profiles, name)
			}
		}
	}
	for _, name := range chosen {
		r.activate(name, known, Position{})
	}
}

func (r *resolver) activate(name string, known map[string]*element, requiredAt Position) {
	if r.active[name] || len(r.errors) > maxErrors {
		return
	}
	p := known[name]
	switch {
	case p == nil:
		pos := requiredAt
		if pos.IsZero() {
			pos = Position{File: r.doc.root.pos.File}
		}
		names := r.doc.ProfileNames()
		fallback := "the description has no profiles"
		if len(names) > 0 {
			fallback = "known are " + strings.Join(names, ", ")
		}
		r.errors.add(pos, DidYouMean(name, names, fallback), "profile %q is not defined", name)
		return
	case !r.archMatches(p):
		arch, _ := p.attr("arch")
		r.errors.add(p.attrPos("arch"), "choose another profile", "profile %q is for %s and not for %s", name, arch, r.arch)
		return
	}
	r.active[name] = true
	r.profiles = append(r.profiles, name)
	for _, q := range p.elements("requires") {
		needed, _ := q.attr("profile")
		r.activate(needed, known, q.attrPos("profile"))
	}
}

// selectType finds the type to build: the one that was asked for, or else the
// primary one, or else the first.
func (r *resolver) selectType(image string) {
	types := r.types()
	for _, t := range types {
		name, _ := t.attr("image")
		primary, _ := t.attr("primary")
		switch {
		case image != "" && collapse(name) == image, image == "" && isTrue(primary):
			r.typ = t
			return
		case image == "" && r.typ == nil:
			r.typ = t
		}
	}
	if r.typ != nil {
		return
	}
	r.typeNotFound(image, types)
}

// types returns all types that count.
func (r *resolver) types() []*element {
	var types []*element
	for _, p := range r.sections("preferences") {
		types = append(types, p.elements("type")...)
	}
	return types
}

func (r *resolver) typeNotFound(image string, types []*element) {
	pos := r.doc.root.pos
	var here []string
	for _, t := range types {
		name, _ := t.attr("image")
		here = append(here, collapse(name))
	}
	if image != "" && len(here) > 0 {
		r.errors.add(pos, DidYouMean(image, here, "it has "+strings.Join(here, ", ")), "the description has no type %q%s", image, r.forProfiles())
		return
	}
	hint := "add a <type> to a <preferences> section"
	for _, p := range r.doc.root.elements("preferences") {
		profiles, _ := p.attr("profiles")
		for _, t := range p.elements("type") {
			name, _ := t.attr("image")
			if names := splitCommas(profiles); len(names) > 0 && (image == "" || collapse(name) == image) {
				hint = fmt.Sprintf("choose a profile: --profile %s has the type %s", names[0], collapse(name))
			}
		}
	}
	what := "no type"
	if image != "" {
		what = fmt.Sprintf("no type %q", image)
	}
	r.errors.add(pos, hint, "the description has %s%s", what, r.forProfiles())
}

func (r *resolver) forProfiles() string {
	if len(r.profiles) == 0 {
		return " outside of profiles"
	}
	return " for the profiles " + strings.Join(r.profiles, ", ")
}
