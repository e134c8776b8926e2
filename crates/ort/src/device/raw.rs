//! All unsafe code of this crate: views into device memory, and runs that read and write them in place.
//!
//! The safe binding copies a borrowed input before it binds it (`IoBinding::bind_input`), and cannot write an output into a part
//! of an allocation. The cache needs both to stay in place.
#![expect(
    unsafe_code,
    reason = "pointers into device memory, and a run of the C interface with outputs in them"
)]

use std::ffi::{CStr, c_char};
use std::marker::PhantomData;
use std::ptr;

use ort::AsPointer;
use ort::memory::Allocator;
use ort::session::Session;
use ort::sys::OrtValue;
use ort::value::{Shape, Tensor, TensorRefMut, Value, ValueTypeMarker};

/// An allocation of `f32` in a provider's memory. Its content is undefined at first.
///
/// Only the runtime reads and writes it, during a run. Nothing here dereferences it.
#[derive(Debug)]
pub(crate) struct Block {
    tensor: Tensor<f32>,
    len: usize,
}

/// A tensor in a part of a [`Block`].
#[derive(Debug)]
pub(crate) struct View<'a>(TensorRefMut<'a, f32>);

impl Block {
    /// Allocates `len` elements.
    ///
    /// # Errors
    /// The device is out of memory.
    pub(crate) fn new(allocator: &Allocator, len: usize) -> ort::Result<Self> {
        Ok(Self { tensor: Tensor::new(allocator, [len])?, len })
    }

    /// The number of elements.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// A tensor of this shape that starts at element `offset`.
    ///
    /// # Errors
    /// It exceeds the block.
    pub(crate) fn view(&self, offset: usize, shape: &[usize]) -> ort::Result<View<'_>> {
        let len = shape.iter().try_fold(1_usize, |len, &size| len.checked_mul(size));
        let end = len.and_then(|len| len.checked_add(offset)).filter(|&end| end <= self.len);
        if end.is_none() {
            let message =
                format!("a view of shape {shape:?} at {offset} exceeds a block of {} elements", self.len);
            return Err(ort::Error::new(message));
        }
        let shape: Shape = shape.iter().map(|&size| size as i64).collect();
        let start = self.tensor.data_ptr().cast_mut().cast::<f32>();
        // SAFETY: `offset` is within the allocation that starts at `start`, as checked above.
        let data = unsafe { start.add(offset) };
        // SAFETY: the memory is the one that the tensor's description names, the view lies within it, and the lifetime of the
        // view keeps the block alive.
        let tensor =
            unsafe { TensorRefMut::from_raw(self.tensor.memory_info().to_owned(), data.cast(), shape) }?;
        Ok(View(tensor))
    }
}

impl View<'_> {
    /// The tensor as an input.
    pub(crate) fn tensor(&self) -> &Tensor<f32> {
        &self.0
    }
}

/// Inputs and outputs of one run, by name.
#[derive(Debug, Default)]
pub(crate) struct Run<'a> {
    input_names: Vec<*const c_char>,
    inputs: Vec<*const OrtValue>,
    output_names: Vec<*const c_char>,
    outputs: Vec<*mut OrtValue>,
    values: PhantomData<&'a OrtValue>,
}

impl<'a> Run<'a> {
    /// Adds an input. The runtime reads it in place if it is in the session's memory.
    pub(crate) fn input<T: ValueTypeMarker + ?Sized>(&mut self, name: &'a CStr, value: &'a Value<T>) {
        self.input_names.push(name.as_ptr());
        self.inputs.push(value.ptr());
    }

    /// Adds an output, written into a view. It may be the view of an input if the node works in place.
    pub(crate) fn output(&mut self, name: &'a CStr, view: &'a View<'_>) {
        self.output_names.push(name.as_ptr());
        self.outputs.push(view.0.ptr().cast_mut());
    }

    /// Runs the session. Its stream is idle at the end, so that another session can read the outputs.
    ///
    /// # Errors
    /// The runtime's error, for example an output whose shape is not that of its view.
    pub(crate) fn run(mut self, session: &mut Session) -> ort::Result<()> {
        // SAFETY: names and values are alive (`'a`), and their numbers are those passed. The session is borrowed exclusively, as
        // a run requires. Outputs are views of blocks, to which no Rust reference points. A null pointer for the options means
        // the default ones, with which a run waits for its stream.
        let status = unsafe {
            (ort::api().Run)(
                session.ptr().cast_mut(),
                ptr::null(),
                self.input_names.as_ptr(),
                self.inputs.as_ptr(),
                self.inputs.len(),
                self.output_names.as_ptr(),
                self.output_names.len(),
                self.outputs.as_mut_ptr(),
            )
        };
        // SAFETY: the status is that of the run, and the error takes it over.
        unsafe { ort::Error::result_from_status(status) }
    }
}
