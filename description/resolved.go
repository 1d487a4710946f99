package description

import "cmp"

// Resolved returns the description that is left when all that does not count
// for the image's selection is taken away: profiles, other types, and parts for
// other architectures. It describes the same image without any selection.
// Credentials of repositories are left out.
func (img *Image) Resolved() *Document {
	doc := img.withoutSecrets()
	doc.Warnings = nil
	r := &resolver{doc: doc, arch: img.Arch, profiles: img.Profiles, active: map[string]bool{}}
	for _, name := range img.Profiles {
		r.active[name] = true
	}
	r.selectType(img.selection.Type)
	root := doc.root
	root.dropChildren("profiles")
	root.children = r.kept(root, imageRule)
	mergePreferences(root, img)
	return doc
}

// kept returns the children of an element that count, without the attributes
// that decided it. For <packages>, which are kept under the names of image
// types, that is the type image.
func (r *resolver) kept(e *element, rule *elementRule) []node {
	var kept []node
	for _, c := range e.children {
		if c.elem == nil {
			kept = append(kept, c)
			continue
		}
		below := rule.child(c.elem.name)
		switch {
		case below == nil || below.Rule.Foreign:
		case !r.counts(c.elem, below.Rule), c.elem.name == "type" && rule == preferencesRule && c.elem != r.typ,
			c.elem.name == "packages" && rule == imageRule && !r.packagesCount(c.elem):
			continue
		default:
			c.elem.children = r.kept(c.elem, below.Rule)
			if below.Rule.attr("profiles") != nil {
				c.elem.dropAttr("profiles")
			}
			if a := below.Rule.attr("arch"); a != nil && a.Value == archList {
				c.elem.dropAttr("arch")
			}
		}
		kept = append(kept, c)
	}
	return kept
}

// mergePreferences makes one section of all, with the values that count.
func mergePreferences(root *element, img *Image) {
	sections := root.elements("preferences")
	if len(sections) < 2 {
		return
	}
	winners := map[string]*element{}
	for name, first := range map[string]bool{
		"version": true, "packagemanager": true, "release-version": true, "rpm-locale-filtering": true, "rpm-excludedocs": true,
		"rpm-check-signatures": true, "locale": false, "keytable": false, "timezone": false, "bootsplash-theme": false, "bootloader-theme": false,
	} {
		at := img.At(name)
		for _, p := range sections {
			c := p.child(name)
			if c == nil {
				continue
			}
			if c.pos == at || winners[name] == nil && first {
				winners[name] = c
			}
		}
	}
	merged := &element{name: "preferences", pos: sections[0].pos}
	done := map[string]bool{}
	for _, p := range sections {
		for _, c := range p.children {
			if c.elem == nil {
				merged.children = append(merged.children, c)
				continue
			}
			e := cmp.Or(winners[c.elem.name], c.elem)
			if winners[c.elem.name] != nil && done[c.elem.name] {
				continue
			}
			done[c.elem.name] = true
			merged.children = append(merged.children, node{elem: e})
		}
	}
	kept := root.children[:0]
	placed := false
	for _, c := range root.children {
		switch {
		case c.elem == nil || c.elem.name != "preferences":
			kept = append(kept, c)
		case !placed:
			kept, placed = append(kept, node{elem: merged}), true
		}
	}
	root.children = kept
}
