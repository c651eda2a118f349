//! A small XML tree and its writer. Every text and attribute goes through quick-xml's escaping; nothing is ever pasted.

use std::io::{self, Write};

use quick_xml::Writer;
use quick_xml::events::BytesText;

/// An element: its name, attributes in order, and what is inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element {
    name: &'static str,
    attributes: Vec<(&'static str, String)>,
    inside: Inside,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Inside {
    Elements(Vec<Element>),
    Text(String),
}

/// An empty element.
pub fn element(name: &'static str) -> Element {
    Element { name, attributes: Vec::new(), inside: Inside::Elements(Vec::new()) }
}

/// An element that holds only text.
pub fn text(name: &'static str, text: impl Into<String>) -> Element {
    Element { name, attributes: Vec::new(), inside: Inside::Text(text.into()) }
}

impl Element {
    pub fn with(mut self, attribute: &'static str, value: impl ToString) -> Self {
        self.attributes.push((attribute, value.to_string()));
        self
    }

    /// Adds elements inside; `None`s are left out. An element that held text keeps its text.
    pub fn holding(mut self, more: impl IntoIterator<Item = impl Into<Option<Element>>>) -> Self {
        if let Inside::Elements(elements) = &mut self.inside {
            elements.extend(more.into_iter().filter_map(Into::into));
        }
        self
    }

    /// The document, indented by two spaces.
    ///
    /// # Errors
    /// None in practice: the sink is memory.
    pub fn to_document(&self) -> io::Result<String> {
        let mut writer = Writer::new_with_indent(Vec::new(), b' ', 2);
        self.write(&mut writer)?;
        let mut bytes = writer.into_inner();
        bytes.push(b'\n');
        String::from_utf8(bytes).map_err(io::Error::other)
    }

    fn write<W: Write>(&self, writer: &mut Writer<W>) -> io::Result<()> {
        let attributes = self.attributes.iter().map(|(name, value)| (*name, value.as_str()));
        let start = writer.create_element(self.name).with_attributes(attributes);
        match &self.inside {
            Inside::Text(text) => start.write_text_content(BytesText::new(text))?,
            Inside::Elements(elements) if elements.is_empty() => start.write_empty()?,
            Inside::Elements(elements) => {
                start.write_inner_content(|writer| elements.iter().try_for_each(|element| element.write(writer)))?
            }
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_escaped() {
        let tree = element("a").with("b", r#"'"<&>"#).holding([text("c", "<d/>&amp;")]);
        let document = tree.to_document().expect("written");
        assert_eq!(document, "<a b=\"&apos;&quot;&lt;&amp;&gt;\">\n  <c>&lt;d/&gt;&amp;amp;</c>\n</a>\n");
    }
}
